"""The host of preloaded.py: imports a program's modules, then makes a copy of itself for every command it is asked for.

    python -m local_stack.processes.preloaded_host SOCKET SUPERVISOR ENTRY MODULE,MODULE… TITLE

It must have one thread and no event loop when it forks: importing starts neither, and what would (a client, a pool,
uvloop's loop) is made by the copy. A copy is born through a process in between that ends at once, so that the kernel
hands it to the supervisor, the nearest sub-reaper; only then it asks for its death signal, which is the new parent's.
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # from linux/prctl.h
PR_SET_NAME = 15

#: What a copy gets when the supervisor dies: an orderly end, as when it is started the ordinary way.
DEATH_SIGNAL = signal.SIGTERM

# One request: a command line and one descriptor.
REQUEST_BYTES = 64 * 1024

# The process in between ends within microseconds of the copy's birth.
ADOPTION_SECONDS = 5.0
ADOPTION_POLL_SECONDS = 0.0005

# Where /proc/PID/stat tells the beginning and end of the command line, counted from the field after the name.
ARG_START, ARG_END = 45, 46


@dataclass(frozen=True, slots=True)
class Request:
    """A command the supervisor wants a copy to be."""

    command: list[str]
    arguments: list[str]
    output: int


def main(arguments: list[str]) -> None:
    """Import, serve requests until the socket is closed; a copy returns from here by being the program."""
    descriptor, supervisor, entry, modules, _title = arguments
    gc.disable()  # nothing that is imported becomes garbage
    for name in [entry.partition(":")[0], *modules.split(",")]:
        importlib.import_module(name)
    gc.freeze()  # a copy's collector then leaves these pages shared
    gc.enable()
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        sys.exit("an import has started a thread: copies of this process would not be safe")
    control = socket.socket(fileno=int(descriptor))
    control.send(b"loaded")
    request = _serve(control)
    control.close()
    if request is not None:
        _become(request, int(supervisor), entry)


def _serve(control: socket.socket) -> Request | None:
    """Make copies until the supervisor hangs up (None); in a copy, return what it is to be."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES, 1)
        if not message:
            return None
        wanted: dict[str, Any] = json.loads(message)
        pid = _copy()
        if pid == 0:
            return Request(wanted["command"], wanted["arguments"], descriptors[0])
        os.close(descriptors[0])
        control.send(str(pid).encode())


def _copy() -> int:
    """Fork a grandchild and return its pid once it has lost its parent; 0 in the grandchild."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            os.close(writing)
            return 0
        os.write(writing, str(pid).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        pid = int(pipe.read())
    os.waitpid(between, 0)
    return pid


def _become(request: Request, supervisor: int, entry: str) -> None:
    """Go on as the program, with everything a process has that was started for it alone."""
    os.setsid()
    for standard in (1, 2):
        os.dup2(request.output, standard)
    os.close(request.output)
    _belong_to(supervisor)
    script = request.command[-len(request.arguments) - 1]
    _show_as(Path(script).name, [sys.executable, *request.command])
    sys.argv = [script, *request.arguments]
    module, _, function = entry.partition(":")
    getattr(importlib.import_module(module), function)()


def _belong_to(supervisor: int) -> None:
    """Wait until the supervisor is the parent, and die with it from then on."""
    deadline = time.monotonic() + ADOPTION_SECONDS
    while os.getppid() != supervisor:
        if time.monotonic() > deadline:
            sys.exit("the supervisor died before this process began")
        time.sleep(ADOPTION_POLL_SECONDS)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(DEATH_SIGNAL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != supervisor:
        sys.exit("the supervisor died before this process began")


def _show_as(name: str, command: list[str]) -> None:
    """Write the command line over the host's own, so that the process list shows what this process is.

    The kernel shows the text up to the first NUL where the last byte is none (fs/proc/base.c).
    """
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[ARG_START]), int(fields[ARG_END])
    title = " ".join(command).encode(errors="surrogateescape")[: end - start - 2]
    try:
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(title.ljust(end - start - 1, b"\0") + b".")
    except OSError:  # a hardened kernel: the list shows the host's command line, nothing else is different
        return


if __name__ == "__main__":
    main(sys.argv[1:])
