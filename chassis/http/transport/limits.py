"""What one client may take of a process: bytes, seconds and connections."""

from __future__ import annotations

import resource
from collections import deque
from dataclasses import dataclass
from typing import Final

import structlog

from chassis.settings import Transport

log = structlog.get_logger("http")

#: Request line and header fields; the longest token (8 KiB) and an Idempotency-Key fit in many times.
HEAD_BYTES: Final = 64 * 1024
HEAD_FIELDS: Final = 100
TARGET_BYTES: Final = 8 * 1024
#: Reading pauses once this many bytes of a body wait for the app.
BUFFERED_BYTES: Final = 64 * 1024
#: What the parser is given at once of a head or of chunks, which may hold thousands of fields and chunks: two
#: milliseconds of its work.
PARSED_BYTES: Final = 16 * 1024
#: What comes on a connection that ends is read, and forgotten, with pauses of so many seconds: up to 25 MB/s.
FORGETTING_SECONDS: Final = 0.01
#: Over how long a client has to keep the least rate, and how often that is looked at.
RATE_SECONDS: Final = 20
LOOK_SECONDS: Final = 1.0
#: A body that is half here when the process is told to stop gets this long to come whole, and work that waits for its
#: turn as long to begin.
STOPPING_SECONDS: Final = 2.0

#: Files of a process that are no client's: pools of connections, Kafka, logs, libraries.
OTHER_FILES: Final = 256
#: An API listens twice, for clients and for the inside.
LISTENERS: Final = 2
#: However low the file limit is, operators can still ask.
FEWEST_CONNECTIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one listener that are settings."""

    head_seconds: float
    keep_alive_seconds: float
    bytes_per_second: int
    connections: int

    @classmethod
    def of(cls, settings: Transport) -> Limits:
        """As set, but no more connections than this process may have files; its soft limit of them is raised."""
        return cls(
            settings.http_head_seconds,
            settings.http_keep_alive_seconds,
            settings.http_body_bytes_per_second,
            _within_file_limit(settings.http_connections),
        )


class Pace:
    """Whether something moves at the least rate; to be asked once every LOOK_SECONDS."""

    def __init__(self, bytes_per_second: int) -> None:
        self._least = bytes_per_second * RATE_SECONDS
        self._totals: deque[int] = deque(maxlen=round(RATE_SECONDS / LOOK_SECONDS) + 1)

    def begin_anew(self) -> None:
        """What moves from now on has nothing to do with what moved before."""
        self._totals.clear()

    def is_kept(self, total: int, *, is_due: bool = True) -> bool:
        """Whether as many bytes as must were moved in the last RATE_SECONDS, in all of which something was due.

        `total` is what was moved so far.
        """
        if not is_due:
            self.begin_anew()
            return True
        self._totals.append(total)
        return len(self._totals) < (self._totals.maxlen or 0) or total - self._totals[0] >= self._least


def _within_file_limit(wanted: int) -> int:
    files = _raise_file_limit()
    if files == resource.RLIM_INFINITY:
        return wanted
    room = max((files - OTHER_FILES) // LISTENERS, FEWEST_CONNECTIONS)
    if room < wanted:
        log.warning("http.connections_limited", connections=room, wanted=wanted, file_limit=files)
    return min(wanted, room)


def _raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one, which is what the operator allows; gives what holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except ValueError:
        return soft  # macOS calls a limit infinite that it does not grant
    return hard
