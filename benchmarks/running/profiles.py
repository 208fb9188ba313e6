"""Flame graphs of the hot processes of a benchmark, by py-spy, in a profile run (`make profile-NAME`) only.

py-spy looks at a process from outside, a hundred times a second, at next to no cost. Where the system lets nobody look
(Linux with ptrace_scope 1 and an ordinary user, macOS without root) it says so itself, and the message is passed on.
"""

import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from benchmarks.running.plan import Plan

#: Times a second, as py-spy's own default: enough for a picture of a few seconds.
SAMPLES_PER_SECOND: Final = 100
#: For drawing the picture, which takes a second or two.
WRITE_SECONDS: Final = 30.0


class ProfileError(Exception):
    """No profile could be made; the message says why."""


@asynccontextmanager
async def recording(plan: Plan, name: str, pid: int | None) -> AsyncIterator[None]:
    """Draw the flame graph of a process while the block lasts; without a pid, or in any other run, do nothing.

    Raises:
        ProfileError: py-spy is missing or may not look at the process.
    """
    if plan.profiles is None or pid is None:
        yield
        return
    plan.profiles.mkdir(parents=True, exist_ok=True)
    target = plan.profiles / f"{name}.svg"
    command = [_program(), "record", "--pid", str(pid), "--output", str(target), "--rate", str(SAMPLES_PER_SECOND)]
    process = await asyncio.create_subprocess_exec(
        *command, "--native", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        _, told = await asyncio.wait_for(process.communicate(), WRITE_SECONDS)
    if not target.exists():
        raise ProfileError(f"py-spy made no profile of {name}: {told.decode().strip()}")
    plan.say(f"profile: {target}")


def _program() -> str:
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.is_file() else shutil.which("py-spy")
    if found is None:
        raise ProfileError("py-spy is not installed: make .venv/.bench")
    return found
