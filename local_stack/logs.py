"""The log file of a child: opens it, bounds it, and reads its end when the child dies."""

import os
from pathlib import Path
from typing import BinaryIO

# A log above this size is set aside when its process starts, and one of them is kept; so a process whose stack is used
# for months has at most about twice this.
LARGEST_LOG_BYTES = 10 * 1024 * 1024

# Enough for the last lines of any log here; one JSON line of ours is well below 2 KiB.
TAIL_BYTES = 64 * 1024


def open_log(path: Path) -> BinaryIO:
    """Open the file for appending, unbuffered by us; set an old one aside where it is large.

    Servers quote people's data in their errors, so only the owner may read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LARGEST_LOG_BYTES:
        path.replace(path.with_suffix(path.suffix + ".1"))
    log = path.open("ab")
    os.fchmod(log.fileno(), 0o600)
    return log


def size_of(path: Path) -> int:
    """Return the log's length in bytes, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def last_lines(path: Path, count: int, *, after: int = 0) -> list[str]:
    """Return at most `count` lines from the end, all after the position `after`."""
    if not path.exists():
        return []
    with path.open("rb") as log:
        size = os.fstat(log.fileno()).st_size
        log.seek(max(after if after <= size else 0, size - TAIL_BYTES))
        return log.read().decode(errors="replace").splitlines()[-count:]
