"""Copies of a process that has imported everything: children like those started the ordinary way, only sooner.

A fork server belongs to a whole process and is started once, so each test has a supervisor of its own: it runs the
test's lines and prints one JSON value.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest

from local_stack.processes.preloaded import Preloaded, Program
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux only")

ROOT = Path(__file__).parents[4]
ENTRY = "tests.integration.local_stack.processes.preloaded_program:main"
PROGRAM = Program((sys.executable, "program"), ENTRY, ("uuid_utils", "json"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
END_SECONDS = 30

SUPERVISOR = """
import asyncio, json, os, signal, sys
import psutil
from pathlib import Path
from local_stack.ports import free_port
from local_stack.processes.child import until_ended
from local_stack.processes.http_process import HttpProcess
from local_stack.processes.preloaded import ForkedProcess, Preloaded, Program
from tests.integration.local_stack.processes.test_preloaded import ENTRY, ENVIRONMENT, PROGRAM, copied
from tests.integration.local_stack.processes.test_preloaded import preloaded_with, said

folder = Path(sys.argv[1])

def tell(value):
    print(json.dumps(value), flush=True)

async def main():
{lines}

asyncio.run(main())
"""


def preloaded_with(folder: Path, program: Program = PROGRAM) -> Preloaded:
    return Preloaded(program, ENVIRONMENT, folder, folder / "imports.log")


async def copied(preloaded: Preloaded, log: Path, *arguments: str) -> Any:
    copy = await preloaded.copy([*PROGRAM.command, *arguments], log, ENVIRONMENT)
    assert copy is not None
    return copy


async def said(log: Path) -> dict[str, Any]:
    async def whole_line() -> str:
        return _text(log) if _text(log).endswith("\n") else ""

    document: dict[str, Any] = json.loads(await until(whole_line, within=END_SECONDS, what="the copy's words"))
    return document


def _text(log: Path) -> str:
    return log.read_text() if log.exists() else ""


async def supervisor(folder: Path, lines: str) -> asyncio.subprocess.Process:
    source = SUPERVISOR.format(lines=textwrap.indent(textwrap.dedent(lines), "    "))
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", source, str(folder), stdout=subprocess.PIPE, cwd=ROOT
    )


async def told(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None
    return json.loads(await asyncio.wait_for(process.stdout.readline(), END_SECONDS))


async def run(folder: Path, lines: str) -> Any:
    process = await supervisor(folder, lines)
    answer = await told(process)
    assert await asyncio.wait_for(process.wait(), END_SECONDS) == 0
    return answer


async def test_a_copy_has_a_session_an_environment_and_a_name_of_its_own(folder: Path) -> None:
    words, session, line, name, mark, code = await run(
        folder,
        """
        marked = {**ENVIRONMENT, "MUSTER_TEST_MARK": "kept"}
        preloaded = Preloaded(PROGRAM, marked, folder, folder / "imports.log")
        await preloaded.start()
        copy = await copied(preloaded, folder / "one.log", "stay", "with spaces")
        words, process = await said(folder / "one.log"), psutil.Process(copy.pid)
        shown = [" ".join(process.cmdline()).rstrip(), process.name(), process.environ()["MUSTER_TEST_MARK"]]
        os.kill(copy.pid, signal.SIGTERM)
        tell([words, copy.pid, *shown, await copy.wait()])
        """,
    )

    assert words["arguments"] == ["stay", "with spaces"]
    assert words["session"] == session
    assert words["folder"] == str(folder)
    assert line == f"{sys.executable} {sys.executable} program stay with spaces"
    assert name == "program"
    assert mark == "kept"
    assert code == -signal.SIGTERM


async def test_exit_codes_arrive(folder: Path) -> None:
    codes = await run(
        folder,
        """
        preloaded = preloaded_with(folder)
        await preloaded.start()
        copies = [await copied(preloaded, folder / f"{code}.log", "end", str(code)) for code in (0, 3)]
        tell([await until_ended(copy, 20) for copy in copies])
        """,
    )

    assert codes == [0, 3]


async def test_the_last_words_of_a_copy_are_its_own(folder: Path) -> None:
    """Not the standard library's for its processes, which quote what the error does."""
    code = await run(
        folder,
        """
        preloaded = preloaded_with(folder)
        await preloaded.start()
        tell(await until_ended(await copied(preloaded, folder / "one.log", "crash", "hunter2"), 20))
        """,
    )

    first, *rest = (folder / "one.log").read_text().splitlines()
    assert code == 1
    assert json.loads(first)["arguments"] == ["crash", "hunter2"]
    assert rest == ["last words of ValueError: 7"]


async def test_no_two_copies_draw_the_same_random_numbers(folder: Path) -> None:
    words = await run(
        folder,
        """
        preloaded = preloaded_with(folder)
        await preloaded.start()
        logs = [folder / f"{number}.log" for number in range(5)]
        for log in logs:
            await until_ended(await copied(preloaded, log, "linger"), 20)
        tell([await said(log) for log in logs])
        """,
    )

    assert len({each["random"] for each in words}) == 5
    assert len({made for each in words for made in each["ids"]}) == 10


async def test_after_the_end_copies_go_on_and_no_more_are_made(folder: Path) -> None:
    running, another, code = await run(
        folder,
        """
        preloaded = preloaded_with(folder)
        await preloaded.start()
        copy = await copied(preloaded, folder / "one.log", "stay")
        await said(folder / "one.log")
        await preloaded.end()
        running = copy.returncode is None
        another = await preloaded.copy([*PROGRAM.command, "stay"], folder / "two.log", ENVIRONMENT)
        copy.kill()
        tell([running, another, await copy.wait()])
        """,
    )

    assert (running, another, code) == (True, None, -signal.SIGKILL)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("no_such_module", "no_such_module"),
        ("tests.integration.local_stack.processes.starts_a_thread", "started a thread"),
    ],
    ids=["an import fails", "an import starts a thread"],
)
async def test_a_server_that_cannot_make_copies_says_so_in_its_log_and_leaves_the_ordinary_way(
    folder: Path, module: str, reason: str
) -> None:
    forked = await run(
        folder,
        f"""
        preloaded = preloaded_with(folder, Program(PROGRAM.command, ENTRY, ("{module}",)))
        await preloaded.start()
        child = HttpProcess(
            "web", [PROGRAM.command[0], "-m", "http.server"], port=free_port(), environment=os.environ,
            folder=folder, log=folder / "web.log", preloaded=preloaded,
        )
        loaded, process = await preloaded.loaded(), await child._spawn()
        process.kill()
        await process.wait()
        tell([loaded, isinstance(process, ForkedProcess)])
        """,
    )

    assert forked == [False, False]
    assert reason in (folder / "imports.log").read_text()


async def test_a_server_that_is_killed_ends_its_copies_and_leaves_the_ordinary_way(folder: Path) -> None:
    another, left = await run(
        folder,
        """
        preloaded = preloaded_with(folder)
        await preloaded.start()
        copy = await copied(preloaded, folder / "one.log", "stay")
        await said(folder / "one.log")
        child = psutil.Process(copy.pid)
        server = child.parent()
        server.kill()
        server.wait(20)
        await copy.wait()
        child.wait(20)
        another = await preloaded.copy([*PROGRAM.command[:1], "other"], folder / "two.log", ENVIRONMENT)
        tell([another, child.is_running()])
        """,
    )

    assert (another, left) == (None, False)


async def test_copies_die_with_a_supervisor_that_is_killed(folder: Path) -> None:
    process = await supervisor(
        folder,
        """
        preloaded = preloaded_with(folder)
        await preloaded.start()
        copy = await copied(preloaded, folder / "one.log", "stay")
        await said(folder / "one.log")
        tell(copy.pid)
        await copy.wait()
        """,
    )
    copy = psutil.Process(await told(process))
    assert copy.is_running()

    process.kill()
    await process.wait()

    async def gone() -> bool:
        return not copy.is_running() or copy.status() == psutil.STATUS_ZOMBIE

    await until(gone, within=END_SECONDS, what="the copy's end")
