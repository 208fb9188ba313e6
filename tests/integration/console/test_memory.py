"""The memory of a console that stands idle: a process that is started as an installation starts it, not a fork."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
import psutil
import pytest

from chassis.settings import Kafka, PostgresAddress, Topics
from console.app import create_app
from local_stack.ports import free_ports
from tests import issuing
from tests.acceptance.overview import Overview
from tests.integration.console.conftest import NOWHERE, SECRET, Browser, Console, make_settings
from tests.integration.muster_processes import READY_SECONDS, STOP_SECONDS, answers_ready, environment
from tests.waiting import until

MUSTER: Final = str(Path(sys.executable).with_name("muster"))
#: Of its own. Files of libraries that are mapped beside it are shared with the other processes of a machine. 54 MB were
#: measured; rich alone would be 4 MB, and validators of settings that nobody fills in 2 MB.
OWN_BYTES: Final = 57_000_000
LOOK_SECONDS: Final = 30


@asynccontextmanager
async def started(variables: dict[str, str], port: int) -> AsyncIterator[psutil.Process]:
    """A console, ready."""
    process = await asyncio.create_subprocess_exec(MUSTER, "serve", "console", env=variables, cwd="/")
    try:

        async def ready() -> bool:
            assert process.returncode is None, "it ended"
            return await answers_ready(port)

        await until(ready, within=READY_SECONDS, what="the console is ready")
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), STOP_SECONDS)


@pytest.mark.skipif(sys.platform != "linux", reason="what counts as its own differs")
async def test_an_idle_console_takes_little_memory(
    kafka: Kafka, topics: Topics, command_database: PostgresAddress, query_database: PostgresAddress
) -> None:
    port, inner = free_ports(2)
    apis = {f"CONSOLE_{api}{kind}_URL": NOWHERE for api in ("COMMAND", "QUERY", "EVENTS") for kind in ("", "_OPS")}
    told = environment(kafka, topics, command_database, query_database, **apis, **issuing.auth())
    told |= {"CONSOLE_SECRET": SECRET, "CONSOLE_PORT": str(port), "CONSOLE_OPS_PORT": str(inner)}
    del told["AUTH_DISABLED"]
    async with started(told, port) as process, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        link = await Console(create_app(make_settings(command_database, query_database)), query_database).link()
        await Browser(http).sign_in(link)
        overview = Overview(http)
        await overview.says("From command to query", LOOK_SECONDS)
        own = process.memory_full_info().uss
        mapped = " ".join(each.path for each in process.memory_maps())

    assert own <= OWN_BYTES
    assert [name in mapped for name in ("pydantic_core", "uvloop")] == [True, False]
