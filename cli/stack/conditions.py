"""Checks of the machine before a stack is started on it, and advice where a child died because of the machine."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from local_stack.errors import ChildFailedError, LocalStackError
from local_stack.postgres.data import has_cluster

#: A new stack takes 70 MB, and in its first minutes as much again for write-ahead log; with less than this PostgreSQL
#: dies while it starts.
FREE_BYTES: Final = 256 * 1024 * 1024
#: A stack that has run has its write-ahead log already; it needs room for one more file of it, and for Kafka's.
FREE_BYTES_AGAIN: Final = 64 * 1024 * 1024
#: A standby begins with a copy of 70 MB, and then gets the log.
STANDBY_BYTES: Final = 128 * 1024 * 1024
#: This version did not exist before; a clock that says an earlier time is wrong.
RELEASED: Final = datetime(2026, 11, 1, tzinfo=UTC)
#: A clock may be set back a little, by NTP or by hand; more disturbs the order of ids and the freshness of reads.
SET_BACK: Final = timedelta(hours=1)

_SET_THE_CLOCK: Final = "set it (on Linux: timedatectl set-ntp true), then start again"

#: Messages of the system in a child's last lines, and what to do about each.
_REMEDIES: Final = (
    ("No space left on device", "The disk of {folder} is full: make room, or choose another folder with --folder."),
    ("Disk quota exceeded", "Your quota on the disk of {folder} is used up: make room, or use another --folder."),
    ("Read-only file system", "The disk of {folder} is read-only: choose another folder with --folder."),
    (
        "There is insufficient memory for the Java Runtime",
        "Kafka needs 512 MB of memory, and they are not free: end another program.",
    ),
    ("Cannot allocate memory", "The machine has no memory left: end a program that uses much of it."),
)


def require_clock(folder: Path, now: datetime) -> None:
    """Refuse a clock that is far off, because ids, freshness and certificates depend on it.

    Raises:
        LocalStackError: the clock shows a time before this version was made, or well before this stack last ran.
    """
    if now < RELEASED:
        raise LocalStackError(
            f"The clock of this machine says {now:%Y-%m-%d %H:%M} UTC, which is in the past: {_SET_THE_CLOCK}."
        )
    last = _last_run(folder)
    if last is not None and now < last - SET_BACK:
        raise LocalStackError(
            f"The clock of this machine says {now:%Y-%m-%d %H:%M} UTC, but the stack on {folder} last ran at "
            f"{last:%Y-%m-%d %H:%M} UTC: {_SET_THE_CLOCK}. If it was wrong then, `muster reset` starts anew."
        )


def _last_run(folder: Path) -> datetime | None:
    times = [log.stat().st_mtime for log in (folder / "logs").glob("*.log")]
    return datetime.fromtimestamp(max(times), UTC) if times else None


def require_space(folder: Path, *, standby: bool = False) -> None:
    """Refuse a disk that is too full to start on; a new standby needs room of its own.

    Raises:
        LocalStackError: the disk is too full.
    """
    free = shutil.disk_usage(folder).free
    has_run = has_cluster(folder / "postgres" / "data")
    needed, which = (FREE_BYTES_AGAIN, "this") if has_run else (FREE_BYTES, "a new")
    if standby and not has_cluster(folder / "postgres-standby" / "data"):
        needed += STANDBY_BYTES
    if free < needed:
        raise LocalStackError(
            f"Only {free // 1_000_000} MB are free on the disk of {folder}, and {which} stack needs "
            f"{needed // 1_000_000}: make room, or choose another folder with --folder."
        )


def remedy(failure: ChildFailedError, folder: Path) -> str:
    """Return what to do about a child that died; empty where the machine is not the cause."""
    text = "\n".join([failure.what, *failure.last_lines])
    return next((advice.format(folder=folder) for words, advice in _REMEDIES if words in text), "")
