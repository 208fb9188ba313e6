"""The supervisor's side of the watchdog: tells its process which children run, and keeps it running.

The process (watchdog_process.py) reads a pipe whose end means that the supervisor is gone. Where the kernel sends death
signals it comes second: it also ends a child that ignores its signal.
"""

import asyncio
import signal
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("watchdog_process.py")

# It ends unasked only if it is killed. Without a pause, restarts would spin where no process can be made.
RESTART_SECONDS = 1.0
LAST_LINE_SECONDS = 5.0  # it ends as soon as it has read its last line


class Watchdog:
    """Watches from `start` to `end`; children may be added and removed at any time, also before."""

    def __init__(self, *, grace_seconds: float | None = None) -> None:
        self._grace = "-" if grace_seconds is None else str(grace_seconds)
        self._children: dict[int, signal.Signals] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Its process, while there is one."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start its process; from now on no child outlives us."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name="watchdog")

    def watch(self, pid: int, death_signal: signal.Signals) -> None:
        """Tell it of a child, which leads a process group."""
        self._children[pid] = death_signal
        self._tell(f"+{pid} {int(death_signal)}\n")

    def forget(self, pid: int) -> None:
        """Tell it that a child has ended; harmless a second time."""
        if self._children.pop(pid, None) is not None:
            self._tell(f"-{pid}\n")

    async def end(self) -> None:
        """End it and leave children alone; harmless if it never started."""
        if self._keeper is None or self._process is None:
            return
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        self._keeper = None
        self._tell("end\n")
        try:
            async with asyncio.timeout(LAST_LINE_SECONDS):
                await self._process.communicate()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _spawn(self) -> None:
        # As arguments and not as its first lines, so that it knows them even if we die before we can write.
        known = dict(self._children)
        self._process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-I",
                "-S",
                str(PROGRAM),
                self._grace,
                *(f"{pid}:{int(number)}" for pid, number in known.items()),
            ),
            stdin=asyncio.subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )
        # Children that came or went while its process was made.
        for pid in known.keys() - self._children.keys():
            self._tell(f"-{pid}\n")
        for pid, number in self._children.items():
            if known.get(pid) != number:
                self._tell(f"+{pid} {int(number)}\n")

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            await self._process.wait()
            await asyncio.sleep(RESTART_SECONDS)
            await self._spawn()

    def _tell(self, line: str) -> None:
        # A few dozen bytes for each child: the pipe never fills, so there is nothing to drain.
        if self._process and self._process.stdin and not self._process.stdin.is_closing():
            self._process.stdin.write(line.encode())
