"""The supervisor's side of the watchdog: tells it which children run, and keeps it running.

Its process (watchdog_process.py) notices by the end of a pipe that the supervisor is gone. Where the kernel sends death
signals it is the second line: it also ends a child that ignores them.
"""

import asyncio
import signal
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("watchdog_process.py")

# It dies only by a kill; started again at once it would spin where no process can be made.
RESTART_SECONDS = 1.0
END_SECONDS = 5.0  # it ends as soon as it has read its last line


class Watchdog:
    """Watches from `start` to `end`; children may come and go in between, and before."""

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
        """End it: whatever still runs is left alone. Harmless when it never started."""
        if self._keeper is None or self._process is None:
            return
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        self._keeper = None
        self._tell("end\n")
        try:
            await asyncio.wait_for(self._process.communicate(), END_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _spawn(self) -> None:
        # As arguments, not as its first lines: it knows them even if we die before we could write.
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
        # A few dozen bytes a child: the pipe never fills, so there is nothing to drain.
        if self._process and self._process.stdin and not self._process.stdin.is_closing():
            self._process.stdin.write(line.encode())
