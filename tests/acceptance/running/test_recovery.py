"""What `muster up` finds after a crash: the supervisor killed, servers killed, everything killed. Nothing is lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from local_stack.folder import MARK_VARIABLE
from tests.acceptance.clients import Registered, read, register
from tests.acceptance.stack import Stack
from tests.waiting import until

HTTP_SECONDS = 30
USERS = 10
SERVICES = ["command-api", "query-api", "relay", "projectors", "event-api"]
PARTS = ["postgres", "kafka", *SERVICES]
GONE_SECONDS = 40  # the watchdog's grace, twice


async def registered(stack: Stack) -> list[Registered]:
    async with httpx.AsyncClient(timeout=HTTP_SECONDS) as http:
        return [await register(http, stack) for _ in range(USERS)]


async def assert_all_are_there(stack: Stack, users: list[Registered]) -> None:
    async with httpx.AsyncClient(timeout=HTTP_SECONDS) as http:
        answers = [await read(http, user) for user in users]
    assert [answer.json() for answer in answers] == [user.document for user in users]


@contextmanager
def process_of(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that belongs to a stack on another folder."""
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    with subprocess.Popen(command, env=os.environ | {MARK_VARIABLE: str(folder)}) as process:
        try:
            yield process
        finally:
            process.kill()


async def until_gone(pids: list[int]) -> None:
    async def gone() -> bool:
        return not [pid for pid in pids if psutil.pid_exists(pid) and not _is_zombie(pid)]

    await until(gone, within=GONE_SECONDS, what="the end of every process")


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_no_process_outlives_a_killed_supervisor_and_the_next_start_has_everything(stack: Stack) -> None:
    users = await registered(stack)
    pids = [stack.pid(part) for part in PARTS]

    await stack.kill()
    await until_gone(pids)
    await stack.start()

    assert "was killed" in stack.screen
    await assert_all_are_there(stack, users)


async def test_everything_killed_at_once_loses_nothing_that_was_acknowledged(stack: Stack) -> None:
    """The events of the last users are not all published yet, nor all applied."""
    pids = [stack.pid(part) for part in PARTS]
    users = await registered(stack)

    await stack.kill(*pids)
    await until_gone(pids)
    await stack.start()

    await assert_all_are_there(stack, users)


async def test_an_orphan_of_this_folder_is_ended_and_nobody_elses(stack: Stack) -> None:
    """A frozen child can obey no signal but SIGKILL; the next start comes before the watchdog's grace is over."""
    users = await registered(stack)
    orphan = stack.pid("relay")
    with process_of(stack.folder.parent / "other") as stranger:
        os.kill(orphan, signal.SIGSTOP)
        await stack.kill()
        await stack.start()

        assert "were still running and have been ended" in stack.screen
        assert not psutil.pid_exists(orphan) or _is_zombie(orphan)
        assert stranger.poll() is None
    await assert_all_are_there(stack, users)


@pytest.mark.parametrize("server", ["postgres", "kafka"])
async def test_a_server_that_is_killed_comes_back_and_nothing_is_lost(stack: Stack, server: str) -> None:
    users = await registered(stack)
    pid = stack.pid(server)

    os.kill(pid, signal.SIGKILL)

    async def restarted() -> bool:
        return stack.pid(server) != pid

    await until(restarted, within=60, what=f"a new {server}")
    for service in SERVICES:
        await stack.until_ready(service)
    await assert_all_are_there(stack, users + await registered(stack))
