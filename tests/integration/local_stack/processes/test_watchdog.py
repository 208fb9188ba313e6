"""The watchdog alone, without the kernel's death signal, as on systems that have none."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from local_stack.processes.watchdog import Watchdog
from tests.integration.local_stack.processes.scripts import PARENT, STEADY, STUBBORN, Script
from tests.waiting import until

ROOT = Path(__file__).parents[4]
GRACE_SECONDS = 0.5
END_SECONDS = 10


class Unsignalled(Script):
    """A child whose death the kernel leaves to others."""

    asks_kernel = False


@asynccontextmanager
async def supervised(folder: Path, script: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, psutil.Process]]:
    """A supervisor in a process of its own, with one child."""
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SUPERVISOR, str(folder), script, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert supervisor.stdout is not None
    child = psutil.Process(int(await asyncio.wait_for(supervisor.stdout.readline(), END_SECONDS)))
    try:
        yield supervisor, child
    finally:
        for process in (supervisor, child):
            _kill(process.pid)
        await supervisor.wait()


def sleeper() -> "subprocess.Popen[bytes]":
    """A process that leads a group, as a child does, and ends when it is told to."""
    return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.mark.parametrize("script", [STEADY, STUBBORN], ids=["obedient", "ignores SIGTERM"])
async def test_no_child_outlives_a_killed_supervisor(folder: Path, script: str) -> None:
    async with supervised(folder, script) as (supervisor, child):
        supervisor.kill()
        await supervisor.wait()

        await until(lambda: _gone(child), within=END_SECONDS, what="the child's end")


async def test_a_childs_workers_end_too(folder: Path) -> None:
    async with supervised(folder, PARENT) as (supervisor, child):
        [worker] = child.children()

        supervisor.kill()
        await supervisor.wait()

        await until(lambda: _gone(worker), within=END_SECONDS, what="the worker's end")


async def test_a_killed_watchdog_is_replaced_and_knows_the_children(folder: Path) -> None:
    async with supervised(folder, STEADY) as (supervisor, child):
        [first] = [process for process in psutil.Process(supervisor.pid).children() if process.pid != child.pid]
        first.kill()

        async def replaced() -> bool:
            pids = {process.pid for process in psutil.Process(supervisor.pid).children()} - {child.pid, first.pid}
            return bool(pids)

        await until(replaced, within=END_SECONDS, what="a new watchdog")
        supervisor.kill()
        await supervisor.wait()

        await until(lambda: _gone(child), within=END_SECONDS, what="the child's end")


async def test_children_that_come_and_go_while_its_process_is_made_are_known_to_it() -> None:
    watchdog = Watchdog(grace_seconds=GRACE_SECONDS)
    with sleeper() as came, sleeper() as went:
        watchdog.watch(went.pid, signal.SIGTERM)

        async def meanwhile() -> None:
            watchdog.watch(came.pid, signal.SIGTERM)
            watchdog.forget(went.pid)

        try:
            await asyncio.gather(watchdog._spawn(), meanwhile())
            process = watchdog._process
            assert process is not None
            assert process.stdin is not None
            process.stdin.close()  # as the end of its supervisor would
            await asyncio.wait_for(process.wait(), END_SECONDS)

            assert await asyncio.to_thread(came.wait, END_SECONDS) == -signal.SIGTERM
            assert went.poll() is None
        finally:
            came.kill()
            went.kill()


async def test_ends_in_order_without_touching_what_still_runs(folder: Path) -> None:
    watchdog = Watchdog(grace_seconds=GRACE_SECONDS)
    await watchdog.start()
    child = Unsignalled("steady", folder, STEADY)
    child.watchdog = watchdog
    async with child:
        process = watchdog.pid
        await watchdog.end()

        assert process is not None
        assert not psutil.pid_exists(process)
        assert child.running


async def _gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


_SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from local_stack.processes.watchdog import Watchdog
from tests.integration.local_stack.processes.test_watchdog import GRACE_SECONDS, Unsignalled

async def main():
    watchdog = Watchdog(grace_seconds=GRACE_SECONDS)
    await watchdog.start()
    child = Unsignalled("child", Path(sys.argv[1]), sys.argv[2])
    child.watchdog = watchdog
    await child.start()
    print(child.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
