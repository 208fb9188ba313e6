"""CPU and peak memory of a process and its descendants while a block runs."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import psutil

#: Between two samples of memory: only growth over seconds matters, and a sample costs a millisecond.
INTERVAL_SECONDS: Final = 0.1


@dataclass(slots=True)
class Usage:
    """Filled when the block ends; `peak_bytes` is the greatest resident size seen."""

    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    seconds: float = 0.0

    @property
    def cores(self) -> float:
        """CPU seconds per second."""
        return self.cpu_seconds / self.seconds if self.seconds else 0.0


@asynccontextmanager
async def sampled(pid: int) -> AsyncIterator[Usage]:
    """Watch a process and its descendants within the block; a descendant that ends within it takes its CPU along."""
    usage, process = Usage(), psutil.Process(pid)
    before, began = cpu_seconds(pid), time.perf_counter()
    watcher = asyncio.create_task(_watch(process, usage))
    try:
        yield usage
    finally:
        watcher.cancel()
        with suppress(psutil.NoSuchProcess):
            usage.peak_bytes = max(usage.peak_bytes, _memory(process))
            usage.cpu_seconds = max(0.0, cpu_seconds(pid) - before)
        usage.seconds = time.perf_counter() - began


async def _watch(process: psutil.Process, usage: Usage) -> None:
    with suppress(psutil.NoSuchProcess):
        while True:
            usage.peak_bytes = max(usage.peak_bytes, _memory(process))
            await asyncio.sleep(INTERVAL_SECONDS)


def cpu_seconds(pid: int) -> float:
    """Return the seconds of a core that a process and its present descendants have used since they began."""
    total = 0.0
    for member in _family(psutil.Process(pid)):
        with suppress(psutil.NoSuchProcess):
            times = member.cpu_times()
            total += times.user + times.system
    return total


def _memory(process: psutil.Process) -> int:
    total = 0
    for member in _family(process):
        with suppress(psutil.NoSuchProcess):
            total += member.memory_info().rss
    return total


def _family(process: psutil.Process) -> Iterator[psutil.Process]:
    yield process
    yield from process.children(recursive=True)
