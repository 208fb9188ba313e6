"""One import for many processes: the standard library's fork server imports a program's modules and forks it.

Importing what a process of ours needs takes a second or two of processor time, nearly all of it the same for all of
them. The server imports once, while PostgreSQL and Kafka start; then it forks a copy for every command wanted. A copy
is like any other child: it has its own session, log, death signal and exit code, and its own name in the process list.
Only the first start of each command is a copy. What dies later is started the ordinary way, and so runs the code that
is there by then.

Linux only: elsewhere a fork without exec is not safe (macOS) or not there. There, and where the server fails, `copy`
gives None and the caller starts the program the ordinary way, which takes longer and changes nothing else.
"""

import asyncio
import importlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import setproctitle

from local_stack.logs import open_log
from local_stack.processes.death_signal import die_with_parent

# The imports take 2 s; on a machine so loaded that they take longer than this, ordinary starts would fail as well.
LOADED_SECONDS = 60.0

# Tells the fork server, as JSON, its supervisor's pid, its log and the modules: it takes no arguments of ours.
TOLD_VARIABLE = "MUSTER_FORK_SERVER"

# Without it a new title would also overwrite the environment, by which the folder's owner finds orphans.
KEEP_ENVIRONMENT = {"SPT_NOENV": "1"}

_FORKING = multiprocessing.get_context("forkserver")


@dataclass(frozen=True, slots=True)
class Program:
    """What the server imports and what a copy calls."""

    command: tuple[str, ...]  # how the program is started the ordinary way
    entry: str  # "module:function", called without arguments once sys.argv is set
    modules: tuple[str, ...]


class ForkedProcess:
    """A process of the fork server's; it has what `Child` needs of asyncio's own."""

    def __init__(self, process: ForkServerProcess) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self.returncode: int | None = None
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._loop.add_reader(process.sentinel, self._collect)

    async def wait(self) -> int:
        """Return the exit code once it has ended (negative: the signal that ended it)."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal; harmless when it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once; harmless when it has ended."""
        self.send_signal(signal.SIGKILL)

    def _collect(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._process.join()
        self.returncode = self._process.exitcode
        self._process.close()
        self._ended.set()


class Preloaded:
    """A program in the fork server, one in each supervisor; `start` returns at once, `copy` waits for the imports.

    Every copy's entry in the process list shows the server's own `environment`, so put no secret into it.
    """

    def __init__(self, program: Program, environment: Mapping[str, str], folder: Path, log: Path) -> None:
        self._program = program
        self._environment = environment
        self._folder = folder
        self._log = log
        self._loaded: asyncio.Task[bool] | None = None

    async def start(self) -> None:
        """Start the server where this system can; its imports go on while others work."""
        if sys.platform != "linux":
            return
        entry = self._program.entry.partition(":")[0]
        told = {"supervisor": os.getpid(), "log": str(self._log), "modules": [entry, *self._program.modules]}
        _FORKING.set_forkserver_preload(["local_stack.processes.fork_server"])
        with _environment({**self._environment, **KEEP_ENVIRONMENT, TOLD_VARIABLE: json.dumps(told)}):
            forkserver.ensure_running()
        self._loaded = asyncio.create_task(_has_loaded())

    async def loaded(self) -> bool:
        """Return once the imports are done; False where there is no server or it failed."""
        return self._loaded is not None and await asyncio.shield(self._loaded)

    async def copy(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> ForkedProcess | None:
        """Fork a process that goes on as this command and writes to a log; None if that fails."""
        count = len(self._program.command)
        if tuple(command[:count]) != self._program.command or not await self.loaded():
            return None
        arguments = (self._program, list(command), dict(environment), self._folder, log)
        process = _FORKING.Process(target=_become, args=arguments)
        try:
            process.start()  # some milliseconds, in which nothing can cancel it
        except (EOFError, OSError):
            return None
        return ForkedProcess(process)

    async def end(self) -> None:
        """Make no more copies. The server stays: it collects the exit codes of those that run, and dies with us."""
        if self._loaded is not None:
            self._loaded.cancel()
            await asyncio.gather(self._loaded, return_exceptions=True)
            self._loaded = None


async def _has_loaded() -> bool:
    """Fork a process that does nothing: the server does so when its imports are done."""
    process = _FORKING.Process(target=int, daemon=True)
    try:
        async with asyncio.timeout(LOADED_SECONDS):
            await asyncio.to_thread(process.start)
    except (EOFError, OSError, TimeoutError):
        return False
    return True


def _become(program: Program, command: list[str], environment: dict[str, str], folder: Path, log: Path) -> None:
    """Go on as the program, with all that an ordinary start would have given it."""
    server = os.getsid(0)  # it leads the session that this process was born into
    os.setsid()
    with open_log(log) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    die_with_parent(server, signal.SIGTERM)
    os.chdir(folder)
    arguments = command[len(program.command) :]
    script = command[-len(arguments) - 1]
    # Before the environment changes, because setproctitle finds the command line by the first one.
    setproctitle.setproctitle(" ".join([sys.executable, *command]))
    setproctitle.setthreadtitle(Path(script).name)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [script, *arguments]
    module, _, function = program.entry.partition(":")
    try:
        getattr(importlib.import_module(module), function)()
    except Exception as error:  # noqa: BLE001 - as Python does; the standard library would print it past the hook
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)


@contextmanager
def _environment(environment: Mapping[str, str]) -> Iterator[None]:
    """Let processes started within the context inherit this environment, since the fork server takes none."""
    ours = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(environment)
        yield
    finally:
        os.environ.clear()
        os.environ.update(ours)
