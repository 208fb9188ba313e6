"""A child process: how it is started, checked, stopped, killed and paused.

Every server and every process of the stack is a `Child`. Guarantees:

- `start` returns when the child is ready to work, not when it merely exists; where it fails, nothing is left running.
- A child leads a session of its own. So Ctrl-C in the terminal reaches only the supervisor, which then stops the
  children in their order.
- A child ends with the supervisor, even after `kill -9`: on Linux at once, by the kernel's death signal (launcher.py);
  everywhere through its watchdog (watchdog.py).
- `stop` ends it within `stop_within`, if need be by `SIGKILL`, together with its whole process group.
"""

import asyncio
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import psutil

from local_stack.errors import ChildFailedError
from local_stack.logs import last_lines, open_log, size_of
from local_stack.processes.watchdog import Watchdog

LAUNCHER = Path(__file__).with_name("launcher.py")

# Only Linux signals a child when its parent dies.
KERNEL_SENDS = sys.platform == "linux"

# Between two probes of readiness: less than a person notices, and much more than a probe costs.
PROBE_INTERVAL_SECONDS = 0.03

# A probe may hang, on a listening socket that never answers; after this it is repeated.
PROBE_SECONDS = 3.0

# SIGKILL needs no cooperation; a process that is still there after this hangs in the kernel.
KILL_SECONDS = 10.0

# Lines of the log that a person is shown of a process that died.
LINES_SHOWN = 20

# What children write holds people's data: for this user alone.
UMASK = 0o077


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged user a child runs as."""

    uid: int
    gid: int


class RunningProcess(Protocol):
    """A started process, as far as a child uses it; asyncio's own process is one."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""

    async def wait(self) -> int:
        """Return the exit code once it has ended (negative: the signal that ended it)."""

    def kill(self) -> None:
        """End it at once."""


class Child(ABC):
    """One process that can be started any number of times; subclasses say what it runs and when it is ready."""

    stop_signal: signal.Signals = signal.SIGTERM
    stop_within: float = 20.0  # seconds of grace before SIGKILL
    death_signal: signal.Signals = signal.SIGTERM  # what it gets when the supervisor dies
    asks_kernel: bool = KERNEL_SENDS  # whether the kernel sends the death signal
    ready_within: float = 60.0  # seconds; many, since a cold disk or a loaded machine is no failure

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.marks: dict[str, str] = {}  # added to its environment, where the folder's owner finds it
        self.watchdog: Watchdog | None = None
        self._process: RunningProcess | None = None
        self._log_start = 0  # where in the log the present run begins

    @abstractmethod
    def command(self) -> list[str]:
        """Return the program's absolute path and its arguments."""

    @abstractmethod
    async def is_ready(self) -> bool:
        """Tell whether it is ready to work; called repeatedly, and never raises for "not yet"."""

    async def prepare(self) -> None:  # noqa: B027 - most children need no preparation
        """Make what the child needs on disk; runs before every start, so it must be cheap when all is there."""

    def environment(self) -> Mapping[str, str]:
        """Return the child's whole environment."""
        return os.environ

    def working_folder(self) -> Path:
        """Return the folder it runs in."""
        return Path("/")

    def account(self) -> Account | None:
        """Return the user to run as; None keeps ours."""
        return None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def running(self) -> bool:
        """Whether the process exists."""
        return self.pid is not None

    async def start(self) -> None:
        """Start it and return when it is ready.

        Raises:
            ChildFailedError: it ended or was not ready within `ready_within`; it no longer runs then.
        """
        if self.running:
            return
        self._log_start = size_of(self.log)
        await self.prepare()
        self._process = await self._spawn()
        if self.watchdog:
            self.watchdog.watch(self._process.pid, self.death_signal)
        try:
            await self._until_ready()
        except BaseException:
            await self.kill()
            raise

    async def wait(self) -> int:
        """Return the exit code once it has ended (negative: the signal that ended it)."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        code = await self._process.wait()
        self._end_group(self._process.pid)  # workers of a dead parent would keep its port
        return code

    async def stop(self) -> None:
        """Ask it to end, and return when it has; harmless when it does not run."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        self.signal(self.stop_signal)
        self.signal(signal.SIGCONT)  # a paused child could not obey
        try:
            async with asyncio.timeout(self.stop_within):
                await process.wait()
        except TimeoutError:
            await self.kill()
        self._end_group(process.pid)

    async def kill(self) -> None:
        """End it and its descendants at once (`kill -9`), as a crash would, and return when it is gone."""
        process = self._process
        if process is None:
            return
        descendants = self._descendants()
        self.signal(signal.SIGKILL)
        for descendant in descendants:
            _signal_quietly(descendant, signal.SIGKILL)
        async with asyncio.timeout(KILL_SECONDS):
            await process.wait()
        self._end_group(process.pid)
        async with asyncio.timeout(KILL_SECONDS):
            while any(_alive(descendant) for descendant in descendants):  # noqa: ASYNC110 - others' children
                await asyncio.sleep(PROBE_INTERVAL_SECONDS)

    async def restart(self) -> None:
        """Stop it and start it again with the same data and port."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """Freeze it and its descendants (`SIGSTOP`): connections stay open and nothing answers."""
        self.signal(signal.SIGSTOP)
        for descendant in self._descendants():
            _signal_quietly(descendant, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        for descendant in self._descendants():
            _signal_quietly(descendant, signal.SIGCONT)
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process; harmless when it does not run."""
        if self._process is None or self._process.returncode is not None:
            return
        try:
            # Process.send_signal would poll, which may take the exit code away from asyncio's watcher.
            os.kill(self._process.pid, number)
        except ProcessLookupError:  # it ended just now
            return

    def last_lines(self, count: int = LINES_SHOWN) -> list[str]:
        """Return the last lines that its present or last run wrote to the log."""
        return last_lines(self.log, count, after=self._log_start)

    def failed(self, what: str) -> ChildFailedError:
        """Return the error that says what went wrong, with the end of the log."""
        return ChildFailedError(self.name, what, self.log, self.last_lines())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _spawn(self) -> RunningProcess:
        with open_log(self.log) as log:
            return await spawn(
                self.command(),
                environment={**self.environment(), **self.marks},
                folder=self.working_folder(),
                account=self.account(),
                death_signal=self.death_signal if self.asks_kernel else None,
                output=log.fileno(),
            )

    async def _until_ready(self) -> None:
        process = self._process
        assert process is not None
        deadline = asyncio.get_running_loop().time() + self.ready_within
        while process.returncode is None:
            if await self._probe():
                return
            if asyncio.get_running_loop().time() > deadline:
                raise self.failed(f"was not ready within {self.ready_within:.0f} s")
            await asyncio.sleep(PROBE_INTERVAL_SECONDS)
        raise self.failed(f"ended before it was ready ({describe_exit(process.returncode)})")

    async def _probe(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await self.is_ready()
        except TimeoutError:
            return False

    def _descendants(self) -> list[psutil.Process]:
        if self.pid is None:
            return []
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def _end_group(self, pid: int) -> None:
        with suppress(ProcessLookupError, PermissionError):  # the group is empty (macOS: only zombies are left)
            os.killpg(pid, signal.SIGKILL)
        if self.watchdog:
            self.watchdog.forget(pid)


async def spawn(  # noqa: PLR0913 - each is a property of the process
    command: list[str],
    *,
    environment: Mapping[str, str],
    death_signal: signal.Signals | None,
    output: int,
    folder: Path = Path("/"),
    account: Account | None = None,
) -> RunningProcess:
    """Start a command by the launcher, in a session of its own; its output goes to one file descriptor."""
    uid, gid = (str(account.uid), str(account.gid)) if account else ("-", "-")
    death = str(int(death_signal)) if death_signal else "-"
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), death, uid, gid]
    return await asyncio.create_subprocess_exec(
        *launcher,
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=dict(environment),
        cwd=folder,
        start_new_session=True,
    )


async def run_once(  # noqa: PLR0913 - each is a property of the process
    command: list[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    within: float,
    folder: Path = Path("/"),
    account: Account | None = None,
) -> int:
    """Run a command that ends by itself and return its exit code; it never outlives this call.

    Raises:
        TimeoutError: it did not end within so many seconds, and was killed.
    """
    with open_log(log) as output:
        process = await spawn(
            command,
            environment=environment,
            folder=folder,
            account=account,
            death_signal=signal.SIGKILL if KERNEL_SENDS else None,
            output=output.fileno(),
        )
    return await until_ended(process, within)


async def until_ended(process: RunningProcess, within: float) -> int:
    """Return the exit code of a process that ends by itself; it never outlives this call.

    Raises:
        TimeoutError: it did not end within so many seconds, and was killed.
    """
    try:
        async with asyncio.timeout(within):
            return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def describe_exit(code: int) -> str:
    """Return in words how a process ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _alive(process: psutil.Process) -> bool:
    """Tell whether it still runs; a zombie that its new parent has not collected yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal_quietly(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
