"""The data folder of a stack: owned by one process at a time, and swept of what a dead one left running.

The lock is the kernel's (`flock`): it ends with the process that holds it, however that ended, so none is ever stale.
The lock file says which process that is. It is empty after an orderly end: whatever else stands in it when the next
owner comes was left by one that was killed.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from local_stack.errors import FolderInUseError, LocalStackError

LOCK_FILE = "lock"

# What an owner does in the folder. A stack's word is left out of the lock file.
STACK: Final = ""
RESET: Final = "reset"

# All that ever stands in a lock file of ours: a process, and what it does unless it runs a stack.
WRITTEN: Final = re.compile(rb"|(\d{1,10})(?: (reset))?\n?")
LOCK_BYTES = 64  # more than that; of somebody else's file enough is read to know it

# Every process of a stack carries its folder in this variable, and hands it on to its own children: that is how what
# an earlier supervisor left is told from anything else on the machine.
FOLDER_VARIABLE = "MUSTER_STACK_FOLDER"

# Whoever only looks whether a folder is owned holds its lock for an instant; an owner tries again for so long.
LOOK_SECONDS = 0.3
LOOK_POLL_SECONDS = 0.01

# An orphan is asked to end and gets this long; most have had their death signal and are on their way already.
ORPHAN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who owns a folder, as far as the lock file says."""

    pid: int  # 0 for the instant in which it has not said it yet
    purpose: str


@dataclass(slots=True)
class Ownership:
    """What an owner has found: `unswept` until it has ended what an owner that was killed may have left."""

    unswept: bool


@contextmanager
def owned_folder(folder: Path, purpose: str = STACK) -> Iterator[Ownership]:
    """Make the folder if need be and own it for the time of the context.

    Raises:
        FolderInUseError: another process owns it.
        LocalStackError: it cannot be made or written, or its lock file is not ours.
    """
    descriptor, unswept = _own(folder, purpose)
    ownership = Ownership(unswept)
    try:
        yield ownership
    finally:
        if not ownership.unswept:
            os.ftruncate(descriptor, 0)
        os.close(descriptor)


def owner(folder: Path) -> int | None:
    """Return the process that owns the folder now; None where nobody does, whatever pid is written down."""
    held = holder(folder)
    return held.pid if held else None


def holder(folder: Path) -> Holder | None:
    """Return who owns the folder now and for what; None where nobody does."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor) or Holder(0, STACK)
    else:
        return None
    finally:
        os.close(descriptor)


def holds(pid: int, folder: Path) -> bool:
    """Tell whether that process has the folder's lock file open; one whose pid was left in the file has not."""
    try:
        lock = (folder / LOCK_FILE).stat()
        for file in psutil.Process(pid).open_files():
            there = Path(file.path).stat()
            if (there.st_dev, there.st_ino) == (lock.st_dev, lock.st_ino):
                return True
    except (psutil.Error, OSError):  # gone, or another user's
        return False
    return False


def _own(folder: Path, purpose: str) -> tuple[int, bool]:
    """Open and lock the file; return its descriptor and whether the last owner was killed."""
    patience = time.monotonic() + LOOK_SECONDS
    while True:
        descriptor = _open(folder)
        try:
            _lock(descriptor, folder, patience)
            if _is_in_place(descriptor, folder):
                return descriptor, _write(descriptor, folder, purpose)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # a reset deleted the file while we waited for it: what counts is the one there now


def _open(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except (FileExistsError, NotADirectoryError) as error:
        file = next(path for path in (folder, *folder.parents) if path.exists())
        raise LocalStackError(
            f"The data folder {folder} cannot be made, since {file} is a file: choose another with --folder."
        ) from error
    except OSError as error:
        raise LocalStackError(
            f"The data folder {folder} cannot be written ({error.strerror}): choose another with --folder."
        ) from error


def _lock(descriptor: int, folder: Path, patience: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() < patience:
                time.sleep(LOOK_POLL_SECONDS)
                continue
            raise FolderInUseError(_in_use(folder, _read(descriptor))) from error
        return


def _in_use(folder: Path, held: Holder | None) -> str:
    pid = held.pid if held and held.pid else "unknown"
    if held and held.purpose == RESET:
        return f"`muster reset` (process {pid}) is at work on {folder}: answer or end it first."
    return (
        f"A stack is already running on {folder} (process {pid}): stop it with Ctrl-C or "
        "`muster up --stop`, or start another one with --folder and ports of its own."
    )


def _is_in_place(descriptor: int, folder: Path) -> bool:
    """Tell whether the open file is still the one that others will open."""
    try:
        there = (folder / LOCK_FILE).lstat()
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _write(descriptor: int, folder: Path, purpose: str) -> bool:
    """Write down who owns the folder; return whether its last owner was killed."""
    before = _read(descriptor)
    if before is None:
        raise LocalStackError(
            f"{folder / LOCK_FILE} is no stack's file: choose another folder with --folder, or move the file away."
        )
    text = f"{os.getpid()} {purpose}".strip().encode()
    os.pwrite(descriptor, text, 0)  # never empty in between: somebody may be reading
    os.ftruncate(descriptor, len(text))
    return before.pid != 0


def _read(descriptor: int) -> Holder | None:
    """Return what the lock file says, pid 0 where it is empty; None where it is not a lock file of ours."""
    found = WRITTEN.fullmatch(os.pread(descriptor, LOCK_BYTES, 0))
    return Holder(int(found[1] or b"0"), (found[2] or b"").decode()) if found else None


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
