"""Copies of a process that has imported everything: children like those started the ordinary way, only sooner."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from local_stack.logs import open_log
from local_stack.ports import free_port
from local_stack.processes.child import until_ended
from local_stack.processes.http_process import HttpProcess
from local_stack.processes.preloaded import CopiedProcess, Preloaded, Program
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux only")

ROOT = Path(__file__).parents[3]
ENTRY = "tests.integration.local_stack.preloaded_program:main"
PROGRAM = Program((sys.executable, "program"), ENTRY, ("uuid_utils", "json"))
END_SECONDS = 20


def preloaded_with(folder: Path, program: Program) -> Preloaded:
    return Preloaded(program, {**os.environ, "PYTHONPATH": str(ROOT)}, folder, folder / "imports.log")


@pytest.fixture
async def preloaded(folder: Path) -> AsyncIterator[Preloaded]:
    made = preloaded_with(folder, PROGRAM)
    await made.start()
    yield made
    await made.end()


async def copied(preloaded: Preloaded, log: Path, *arguments: str) -> CopiedProcess:
    with open_log(log) as output:
        copy = await preloaded.copy([*PROGRAM.command, *arguments], output.fileno())
    assert copy is not None
    return copy


async def said(log: Path) -> dict[str, Any]:
    async def whole_line() -> str:
        return _text(log) if _text(log).endswith("\n") else ""

    document: dict[str, Any] = json.loads(await until(whole_line, within=END_SECONDS, what="the copy's words"))
    return document


def _text(log: Path) -> str:
    return log.read_text() if log.exists() else ""


async def test_a_copy_is_a_child_of_ours_in_a_session_of_its_own_with_its_own_name(
    folder: Path, preloaded: Preloaded
) -> None:
    copy = await copied(preloaded, folder / "one.log", "stay", "with spaces")
    words = await said(folder / "one.log")
    process = psutil.Process(copy.pid)
    line, name = " ".join(process.cmdline()), process.name()

    os.kill(copy.pid, signal.SIGTERM)

    assert words["arguments"] == ["stay", "with spaces"]
    assert words["parent"] == os.getpid()
    assert words["session"] == copy.pid
    assert line == f"{sys.executable} {sys.executable} program stay with spaces"
    assert name == "program"
    assert await asyncio.wait_for(copy.wait(), END_SECONDS) == -signal.SIGTERM


async def test_exit_codes_arrive(folder: Path, preloaded: Preloaded) -> None:
    copies = [await copied(preloaded, folder / f"{code}.log", "end", str(code)) for code in (0, 3)]

    assert [await until_ended(copy, END_SECONDS) for copy in copies] == [0, 3]


async def test_no_two_copies_draw_the_same_random_numbers(folder: Path, preloaded: Preloaded) -> None:
    logs = [folder / f"{number}.log" for number in range(5)]
    for log in logs:
        await until_ended(await copied(preloaded, log, "linger"), END_SECONDS)

    words = [await said(log) for log in logs]

    assert len({each["random"] for each in words}) == len(logs)
    assert len({made for each in words for made in each["ids"]}) == 2 * len(logs)


async def test_copies_go_on_after_the_host_has_ended(folder: Path, preloaded: Preloaded) -> None:
    copy = await copied(preloaded, folder / "one.log", "stay")
    await said(folder / "one.log")

    await preloaded.end()

    assert copy.returncode is None
    assert await preloaded.copy([*PROGRAM.command, "stay"], 1) is None
    copy.kill()
    assert await asyncio.wait_for(copy.wait(), END_SECONDS) == -signal.SIGKILL


@pytest.mark.parametrize(
    "program",
    [
        Program(PROGRAM.command, ENTRY, ("no_such_module",)),
        Program(PROGRAM.command, ENTRY, ("tests.integration.local_stack.starts_a_thread",)),
    ],
    ids=["an import fails", "an import starts a thread"],
)
async def test_a_host_that_cannot_make_copies_says_so_in_its_log_and_leaves_the_ordinary_way(
    folder: Path, program: Program
) -> None:
    preloaded = preloaded_with(folder, program)
    await preloaded.start()
    child = HttpProcess(
        "web",
        [*PROGRAM.command[:1], "-m", "http.server"],
        port=free_port(),
        environment=os.environ,
        folder=folder,
        log=folder / "web.log",
        preloaded=preloaded,
    )

    with open_log(folder / "ordinary.log") as log:
        ordinary = await child._spawn_into(log.fileno())
    ordinary.kill()
    await ordinary.wait()
    await preloaded.end()

    assert not isinstance(ordinary, CopiedProcess)
    assert "no_such_module" in (folder / "imports.log").read_text() or "thread" in (folder / "imports.log").read_text()


async def test_a_host_that_is_killed_leaves_the_ordinary_way(folder: Path, preloaded: Preloaded) -> None:
    assert await preloaded.loaded()
    assert preloaded._host is not None
    preloaded._host.kill()
    await preloaded._host.wait()

    assert await preloaded.copy([*PROGRAM.command, "stay"], 1) is None


@pytest.mark.parametrize("ends", ["too late", "cancelled"])
async def test_a_host_whose_answer_nobody_waited_for_is_asked_no_more_and_its_late_copy_ends(
    folder: Path, ends: str
) -> None:
    seconds = 0.2 if ends == "too late" else END_SECONDS
    preloaded = Preloaded(
        PROGRAM, {**os.environ, "PYTHONPATH": str(ROOT)}, folder, folder / "imports.log", copy_seconds=seconds
    )
    await preloaded.start()
    assert await preloaded.loaded()
    assert preloaded._host is not None
    host = psutil.Process(preloaded._host.pid)
    others = {process.pid for process in psutil.Process().children()}
    host.suspend()

    asking = asyncio.create_task(preloaded.copy([*PROGRAM.command, "stay"], 2))
    if ends == "cancelled":

        async def asked() -> bool:
            return preloaded._turn.locked()

        await until(asked, within=END_SECONDS, what="the request")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    else:
        assert await asking is None
    host.resume()

    assert await preloaded.copy([*PROGRAM.command, "end", "3"], 2) is None
    await preloaded.end()
    assert {process.pid for process in psutil.Process().children()} <= others


async def test_copies_die_with_a_supervisor_that_is_killed(folder: Path) -> None:
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SUPERVISOR, str(folder), stdout=subprocess.PIPE, cwd=ROOT
    )
    assert supervisor.stdout is not None
    copy = psutil.Process(int(await asyncio.wait_for(supervisor.stdout.readline(), END_SECONDS)))
    assert copy.is_running()

    supervisor.kill()
    await supervisor.wait()

    async def gone() -> bool:
        return not copy.is_running() or copy.status() == psutil.STATUS_ZOMBIE

    await until(gone, within=END_SECONDS, what="the copy's end")


_SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from tests.integration.local_stack.test_preloaded import PROGRAM, copied, preloaded_with, said

async def main():
    folder = Path(sys.argv[1])
    preloaded = preloaded_with(folder, PROGRAM)
    await preloaded.start()
    copy = await copied(preloaded, folder / "one.log", "stay")
    await said(folder / "one.log")
    print(copy.pid, flush=True)
    await copy.wait()

asyncio.run(main())
"""
