"""The data folder of a stack: owned by one supervisor at a time, and swept of what a dead one left running.

The lock is the kernel's (`flock`): it ends with the process that holds it, however that ended, so none is ever stale.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from local_stack.errors import FolderInUseError, LocalStackError

LOCK_FILE = "lock"

# Every process of a stack carries its folder in this variable, and hands it on to its own children: that is how what
# an earlier supervisor left is told from anything else on the machine.
FOLDER_VARIABLE = "MUSTER_STACK_FOLDER"

# Whoever only looks whether a folder is owned holds its lock for an instant; an owner tries again for so long.
LOOK_SECONDS = 0.3
LOOK_POLL_SECONDS = 0.01

# An orphan is asked to end and gets this long; most have had their death signal and are on their way already.
ORPHAN_SECONDS = 5.0


@contextmanager
def owned_folder(folder: Path) -> Iterator[None]:
    """Make the folder if need be and own it for the time of the context.

    Raises:
        FolderInUseError: another supervisor owns it.
        LocalStackError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except (FileExistsError, NotADirectoryError) as error:
        file = next(path for path in (folder, *folder.parents) if path.exists())
        raise LocalStackError(
            f"The data folder {folder} cannot be made, since {file} is a file: choose another with --folder."
        ) from error
    except OSError as error:
        raise LocalStackError(
            f"The data folder {folder} cannot be written ({error.strerror}): choose another with --folder."
        ) from error
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def owner(folder: Path) -> int | None:
    """Return the process that owns the folder now; None where nobody does, whatever pid is written down."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(descriptor, 32) or b"0")
    else:
        return None
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    patience = time.monotonic() + LOOK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() < patience:
                time.sleep(LOOK_POLL_SECONDS)
                continue
            holder = os.read(descriptor, 32).decode() or "unknown"
            raise FolderInUseError(
                f"A stack is already running on {folder} (process {holder}): stop it with Ctrl-C or "
                "`muster up --stop`, or start another one with --folder and ports of its own."
            ) from error
        pid = str(os.getpid()).encode()
        os.pwrite(descriptor, pid, 0)  # never empty in between: somebody may be reading
        os.ftruncate(descriptor, len(pid))
        return


def orphans(folder: Path) -> list[psutil.Process]:
    """Return the processes that carry this folder's mark; only the owner of the folder may call them orphans."""
    wanted = str(folder)
    return [process for process in psutil.process_iter() if _carries(process, wanted)]


def end_orphans(folder: Path) -> int:
    """End what an earlier supervisor of this folder left running, and return how many there were."""
    found = orphans(folder)
    for process in found:
        _quietly(process.terminate)
    _, alive = psutil.wait_procs(found, timeout=ORPHAN_SECONDS)
    for process in alive:
        _quietly(process.kill)
    psutil.wait_procs(alive, timeout=ORPHAN_SECONDS)
    return len(found)


def _carries(process: psutil.Process, folder: str) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(FOLDER_VARIABLE) == folder
    except (psutil.Error, OSError):  # gone, or another user's
        return False


def _quietly(action: Callable[[], None]) -> None:
    try:
        action()
    except psutil.NoSuchProcess:
        return
