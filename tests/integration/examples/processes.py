"""An example as whoever copied it runs it: a process with an environment of its own, which may be killed."""

import asyncio
import os
import runpy
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from chassis.settings import Kafka, Topics
from tests.conftest import kafka_variables
from tests.forks import NOWHERE, Fork

STOP_SECONDS = 30


def variables(kafka: Kafka, topics: Topics, **more: str) -> dict[str, str]:
    """What an example is told."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA", "MUSTER"))}
    return {**kept, **kafka_variables(kafka), "EVENTS_TOPIC": topics.events_topic, **more}


@asynccontextmanager
async def running(
    module: str, *arguments: str, environment: Mapping[str, str], out: Path = NOWHERE, err: Path | None = None
) -> AsyncIterator[Fork]:
    """A process that runs a module until the block ends, or until it is killed."""
    process = await Fork.start(be, module, arguments, environment=environment, out=out, err=err)
    try:
        yield process
    finally:
        process.kill()
        await asyncio.wait_for(process.wait(), STOP_SECONDS)


def rows(file: Path, statement: str) -> list[Any]:
    """What an example has in its database; nothing before it has made its tables."""
    if not file.exists():
        return []
    with closing(sqlite3.connect(file)) as database:
        try:
            return database.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise


def be(module: str, arguments: tuple[str, ...]) -> None:
    """Be `python -m module` with these arguments."""
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
