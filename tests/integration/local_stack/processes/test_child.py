import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from local_stack.errors import ChildFailedError
from tests.integration.local_stack.processes.scripts import BROKEN, PARENT, STEADY, STUBBORN, Script
from tests.waiting import until


async def test_is_running_once_started_and_gone_once_stopped(folder: Path) -> None:
    child = Script("steady", folder, STEADY)

    async with child:
        pid = child.pid
        assert pid is not None
        assert psutil.pid_exists(pid)

    assert not child.running
    assert not psutil.pid_exists(pid)
    assert await child.wait() == -signal.SIGTERM


async def test_may_be_stopped_twice_and_when_it_never_started(folder: Path) -> None:
    child = Script("steady", folder, STEADY)
    await child.stop()
    await child.start()

    await child.stop()
    await child.stop()

    assert not child.running


async def test_kills_what_does_not_end_within_its_grace(folder: Path) -> None:
    child = Script("stubborn", folder, STUBBORN)
    child.stop_within = 0.2
    await child.start()

    await child.stop()

    assert await child.wait() == -signal.SIGKILL


async def test_stops_a_paused_child(folder: Path) -> None:
    child = Script("steady", folder, STEADY)
    await child.start()
    assert child.pid is not None
    process = psutil.Process(child.pid)

    child.pause()
    await until(lambda: _has_status(process, psutil.STATUS_STOPPED), within=5, what="the pause")
    await child.stop()

    assert await child.wait() == -signal.SIGTERM


async def test_a_failed_start_tells_the_reason_from_this_runs_log_only(folder: Path) -> None:
    child = Script("broken", folder, BROKEN)
    child.log.write_text("a line of an earlier run\n")

    with pytest.raises(ChildFailedError) as failure:
        await child.start()

    assert "exit code 1" in str(failure.value)
    assert failure.value.last_lines == ["the reason"]
    assert not child.running


async def test_leaves_nothing_running_when_it_does_not_become_ready_in_time(folder: Path) -> None:
    child = Script("mute", folder, "import signal; signal.pause()")
    child.ready_within = 0.3

    with pytest.raises(ChildFailedError, match="was not ready within"):
        await child.start()

    assert not child.running


async def test_leaves_nothing_running_when_a_start_is_cancelled(folder: Path) -> None:
    child = Script("mute", folder, "import signal; print('begun', flush=True); signal.pause()")
    start = asyncio.create_task(child.start())
    await until(lambda: _logged(child, "begun"), within=10, what="the child's first line")
    pid = child.pid
    assert pid is not None

    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start

    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_takes_its_workers_along(folder: Path, way: str) -> None:
    child = Script("parent", folder, PARENT)
    await child.start()
    worker = psutil.Process(int(child.last_lines()[0]))

    await getattr(child, way)()

    await until(lambda: _gone(worker), within=5, what="the worker's end")


async def test_does_not_get_the_terminals_signals(folder: Path) -> None:
    async with Script("steady", folder, STEADY) as child:
        assert child.pid is not None

        assert os.getsid(child.pid) == child.pid != os.getsid(0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
async def test_dies_with_a_supervisor_that_is_killed(folder: Path) -> None:
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SUPERVISOR, str(folder), stdout=subprocess.PIPE, cwd=Path(__file__).parents[4]
    )
    assert supervisor.stdout is not None
    child = psutil.Process(int(await asyncio.wait_for(supervisor.stdout.readline(), 20)))
    assert child.is_running()

    supervisor.kill()
    await supervisor.wait()

    await until(lambda: _gone(child), within=5, what="the orphan's end")


_SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from tests.integration.local_stack.processes.scripts import STEADY, Script

async def main():
    child = Script("steady", Path(sys.argv[1]), STEADY)
    await child.start()
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


async def _gone(process: psutil.Process) -> bool:
    return not process.is_running() or await _has_status(process, psutil.STATUS_ZOMBIE)


async def _has_status(process: psutil.Process, status: str) -> bool:
    try:
        return process.status() == status
    except psutil.NoSuchProcess:
        return status == psutil.STATUS_ZOMBIE


async def _logged(child: Script, line: str) -> bool:
    return line in child.last_lines()
