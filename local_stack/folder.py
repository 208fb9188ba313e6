"""The data folder of a stack has one owner at a time, who ends what a killed owner left running.

The lock is the kernel's (`flock`). It ends with the process that holds it, however that ends, so it is never stale. The
lock file holds the owner's pid and is empty after an orderly end; a pid that a new owner finds there is that of an
owner that was killed.
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

from local_stack.errors import LocalStackError

LOCK_FILE = "lock"

# What an owner does in the folder. The lock file names only the second.
STACK: Final = ""
RESET: Final = "reset"

# The content of a lock file of ours: the owner's pid, and what it does unless it runs a stack.
LOCK_CONTENT: Final = re.compile(rb"|(\d{1,10})(?: (reset))?\n?")
LOCK_BYTES = 64  # longer than our content, to recognise somebody else's file

# Every process of a stack has its folder in this variable, and its children inherit it. By it the processes that a
# killed supervisor left are told from all others on the machine.
MARK_VARIABLE = "MUSTER_STACK_FOLDER"

# A process that only asks who owns a folder holds its lock for an instant; a new owner tries again for so long.
LOCK_SECONDS = 0.3
LOCK_POLL_SECONDS = 0.01

# Time for an orphan to end when asked; most have had their death signal already.
ORPHAN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns a folder, as the lock file says."""

    pid: int  # 0 for the instant before it is written
    purpose: str


@dataclass(slots=True)
class Ownership:
    """What an owner has taken over; `unswept` until it has ended what a killed owner may have left."""

    unswept: bool


@contextmanager
def owned_folder(folder: Path, purpose: str = STACK) -> Iterator[Ownership]:
    """Make the folder where it is missing, and own it for the time of the context.

    Raises:
        LocalStackError: another process owns it, it cannot be made or written, or its lock file is not ours.
    """
    descriptor, unswept = _own(folder, purpose)
    ownership = Ownership(unswept)
    try:
        yield ownership
    finally:
        if not ownership.unswept:
            os.ftruncate(descriptor, 0)
        os.close(descriptor)


def owner(folder: Path) -> Owner | None:
    """Return who owns the folder now; None where nobody does, whatever pid the lock file has."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor) or Owner(0, STACK)
    else:
        return None
    finally:
        os.close(descriptor)


def has_lock_open(pid: int, folder: Path) -> bool:
    """Tell whether that process has the lock file open; another process with a killed owner's pid has not."""
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
    patience = time.monotonic() + LOCK_SECONDS
    while True:
        descriptor = _open(folder)
        try:
            _lock(descriptor, folder, patience)
            if _is_in_place(descriptor, folder):
                return descriptor, _write(descriptor, folder, purpose)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # a reset deleted the file while we waited: lock the new one


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
                time.sleep(LOCK_POLL_SECONDS)
                continue
            raise LocalStackError(_in_use(folder, _read(descriptor))) from error
        return


def _in_use(folder: Path, current: Owner | None) -> str:
    pid = current.pid if current and current.pid else "unknown"
    if current and current.purpose == RESET:
        return f"`muster reset` (process {pid}) is running on {folder}: answer its question or end it first."
    return (
        f"A stack is already running on {folder} (process {pid}): stop it with Ctrl-C or "
        "`muster up --stop`, or start another one with --folder and ports of its own."
    )


def _is_in_place(descriptor: int, folder: Path) -> bool:
    """Tell whether the open file is the one that others open, and not a deleted one."""
    try:
        there = (folder / LOCK_FILE).lstat()
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _write(descriptor: int, folder: Path, purpose: str) -> bool:
    """Write who owns the folder; return whether its last owner was killed."""
    before = _read(descriptor)
    if before is None:
        raise LocalStackError(
            f"{folder / LOCK_FILE} is no stack's file: choose another folder with --folder, or move the file away."
        )
    text = f"{os.getpid()} {purpose}".strip().encode()
    os.pwrite(descriptor, text, 0)  # it is never empty in between, since somebody may be reading
    os.ftruncate(descriptor, len(text))
    return before.pid != 0


def _read(descriptor: int) -> Owner | None:
    """Return what the lock file says, with pid 0 where it is empty; None where it is not a lock file of ours."""
    found = LOCK_CONTENT.fullmatch(os.pread(descriptor, LOCK_BYTES, 0))
    return Owner(int(found[1] or b"0"), (found[2] or b"").decode()) if found else None


def orphans(folder: Path) -> list[psutil.Process]:
    """Return the processes with this folder's mark; for its owner they are orphans."""
    return [process for process in psutil.process_iter() if _is_marked(process, str(folder))]


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


def _is_marked(process: psutil.Process, folder: str) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(MARK_VARIABLE) == folder
    except (psutil.Error, OSError):  # gone, or another user's
        return False


def _quietly(action: Callable[[], None]) -> None:
    try:
        action()
    except psutil.NoSuchProcess:
        return
