"""One import for many processes: a host that has imported a program's modules makes copies of itself.

Importing what a process of ours needs takes a second or two of processor time, nearly all of it the same for all of
them. The host (preloaded_host.py) does it once, while the servers start, and forks a copy for every command wanted;
a copy is a child of the supervisor like any other: its own session, log, death signal and exit code, and a name in the
process list. The host ends when the stack is up; what dies later is started the ordinary way.

Linux only: elsewhere a fork without exec is not safe (macOS) or not there. Everywhere else, and where the host fails,
`copy` gives None and the caller starts the program the ordinary way, which takes longer and changes nothing else.
"""

import asyncio
import ctypes
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_stack.logs import open_log
from local_stack.processes.child import RunningProcess, spawn
from local_stack.processes.preloaded_host import DEATH_SIGNAL

PR_SET_CHILD_SUBREAPER = 36  # from linux/prctl.h

# The imports take 2 s; on a machine so loaded that they take longer than this, ordinary starts would fail as well.
LOADED_SECONDS = 60.0
COPY_SECONDS = 10.0  # a fork takes milliseconds
ANSWER_BYTES = 64  # one word or one number
END_SECONDS = 5.0  # it ends as soon as its socket is closed

# Where a copy writes its own command line over the host's: room for the arguments that come after the program.
TITLE_ROOM = 200


@dataclass(frozen=True, slots=True)
class Program:
    """What the host imports and what a copy calls."""

    command: tuple[str, ...]  # how the program is started the ordinary way
    entry: str  # "module:function", called without arguments once sys.argv is set
    modules: tuple[str, ...]


class CopiedProcess:
    """A copy, as its supervisor sees it; speaks like asyncio's own process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._descriptor = os.pidfd_open(pid)
        self._loop.add_reader(self._descriptor, self._collect)

    async def wait(self) -> int:
        """Return the exit code once it has ended (negative: the signal that ended it)."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        """End it at once; harmless when it has ended."""
        if self.returncode is None:
            os.kill(self.pid, 9)

    def _collect(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        _, status = os.waitpid(self.pid, 0)  # the descriptor says that it has ended: this does not wait
        self.returncode = os.waitstatus_to_exitcode(status)
        self._ended.set()


class Preloaded:
    """The host and the way to its copies; `start` returns at once, the first `copy` waits for the imports."""

    def __init__(
        self,
        program: Program,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        *,
        copy_seconds: float = COPY_SECONDS,
    ) -> None:
        self._program = program
        self._environment = environment
        self._folder = folder
        self._log = log
        self._host: RunningProcess | None = None
        self._socket: socket.socket | None = None
        self._loaded: asyncio.Task[bool] | None = None
        self._turn = asyncio.Lock()
        self._copy_seconds = copy_seconds
        self._late: asyncio.Task[None] | None = None  # ends what a host that was given up still makes

    async def start(self) -> None:
        """Start the host where this system can; its imports go on while others work."""
        if not _possible():
            return
        # Copies lose their parent, the host, at birth: the kernel then gives them to us.
        _set_subreaper(wanted=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            with open_log(self._log) as log:
                self._host = await spawn(
                    self._command(theirs.fileno()),
                    environment=self._environment,
                    folder=self._folder,
                    account=None,
                    death_signal=DEATH_SIGNAL,
                    output=log.fileno(),
                    inherited=(theirs.fileno(),),
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours
        self._loaded = asyncio.create_task(self._has_loaded())

    async def loaded(self) -> bool:
        """Return once the imports are done; False where there is no host or it failed."""
        return self._loaded is not None and await asyncio.shield(self._loaded)

    async def copy(self, command: Sequence[str], output: int) -> CopiedProcess | None:
        """Make a copy that goes on as this command of the program, writing to a descriptor; None if that cannot be."""
        arguments = list(command[len(self._program.command) :])
        if list(command) != [*self._program.command, *arguments] or not await self.loaded():
            return None
        request = json.dumps({"command": list(command), "arguments": arguments}).encode()
        async with self._turn:
            return await self._ask(self._socket, request, output) if self._socket else None

    async def _ask(self, control: socket.socket, request: bytes, output: int) -> CopiedProcess | None:
        """Ask for one copy; a host whose answer was not waited for to its end is asked nothing more."""
        try:
            socket.send_fds(control, [request], [output])
        except OSError:
            return None
        answer = asyncio.create_task(_receive(control))
        try:
            await asyncio.wait({answer}, timeout=self._copy_seconds)
        finally:
            if not answer.done():
                self._give_up(control, answer)
        return CopiedProcess(int(answer.result())) if answer.done() and answer.result() else None

    def _give_up(self, control: socket.socket, answer: asyncio.Task[bytes]) -> None:
        """Ask this host no more: what it still answers would be taken for the answer to the next request."""
        self._socket = None
        control.shutdown(socket.SHUT_WR)  # it ends once it has read this
        self._late = asyncio.create_task(_end_late(control, answer))

    async def end(self) -> None:
        """End the host; the copies go on. Harmless when there is none."""
        if self._loaded is not None:
            self._loaded.cancel()
            await asyncio.gather(self._loaded, return_exceptions=True)
            self._loaded = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._host is not None:
            try:
                await asyncio.wait_for(self._host.wait(), END_SECONDS)
            except TimeoutError:
                self._host.kill()
                await self._host.wait()
            self._host = None
            if self._late is not None:
                await asyncio.wait({self._late}, timeout=END_SECONDS)  # with the host its end of the socket is gone
                self._late.cancel()
                self._late = None
            _set_subreaper(wanted=False)

    async def _has_loaded(self) -> bool:
        assert self._socket is not None
        try:
            return bool(await asyncio.wait_for(_receive(self._socket), LOADED_SECONDS))
        except TimeoutError:
            return False

    def _command(self, descriptor: int) -> list[str]:
        title = " " * (len(" ".join([sys.executable, *self._program.command])) + TITLE_ROOM)
        host = [sys.executable, "-P", "-m", "local_stack.processes.preloaded_host"]
        return [*host, str(descriptor), str(os.getpid()), self._program.entry, ",".join(self._program.modules), title]


async def _receive(control: socket.socket) -> bytes:
    """Return the host's next message; empty when it has gone."""
    try:
        return await asyncio.get_running_loop().sock_recv(control, ANSWER_BYTES)
    except OSError:
        return b""


async def _end_late(control: socket.socket, answer: asyncio.Task[bytes]) -> None:
    """Kill the copies that nobody waits for any more, until the host has gone."""
    try:
        while pid := await answer:
            late = CopiedProcess(int(pid))
            late.kill()
            await late.wait()
            answer = asyncio.create_task(_receive(control))
    finally:
        control.close()


def _possible() -> bool:
    """Tell whether this system has what copies need: pidfds (Linux 5.3), sub-reapers, death signals."""
    if sys.platform != "linux":
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def _set_subreaper(*, wanted: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")
