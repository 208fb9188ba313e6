"""Counters that were just heard to refuse, by the database or as their line is full: what a flood is answered from.

A refused guess costs no line, no connection and no statement then. What is remembered is a digest, as the database has
it, so absent and present identifiers are alike. It holds for MEMORY_SECONDS at most, and no longer than the refusal:
where another process lifts a refusal, by a reset or a success, this one hears of it that much later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil
from typing import Final, NamedTuple

from command_api.credentials.attempts.rule import Counter, TooManyAttemptsError

#: One statement a second for each counter that is flooded costs nothing, and an owner hardly notices the second.
MEMORY_SECONDS: Final = 1.0
#: While one attempt asks the database again.
ASKING_SECONDS: Final = 0.1
#: Counters that are remembered, each in about 300 bytes; beyond that the one that was noted first is forgotten.
MOST_REMEMBERED: Final = 10_000


class _Refusal(NamedTuple):
    until: float
    #: When the database is asked again.
    known_until: float


class Refusals:
    """The refusals that this process has just heard of."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """None yet; `now` gives seconds."""
        self._now = now
        #: By the digest of a counter, the oldest first.
        self._noted: dict[bytes, _Refusal] = {}
        self._none_from = 0.0

    def __bool__(self) -> bool:
        """Whether there may be any."""
        return self._now() < self._none_from

    def note(self, counter: Counter, seconds: float) -> None:
        """Remember that a counter refuses for so many seconds from now on."""
        self.forget(counter.digest)
        if len(self._noted) >= MOST_REMEMBERED:
            del self._noted[next(iter(self._noted))]
        now = self._now()
        self._none_from = now + MEMORY_SECONDS
        self._noted[counter.digest] = _Refusal(now + seconds, now + min(seconds, MEMORY_SECONDS))

    def known(self, counter: Counter) -> int | None:
        """In how many seconds a counter ends to refuse, where it is known that it does."""
        noted = self._noted.get(counter.digest)
        now = self._now()
        return ceil(noted.until - now) if noted and now < noted.known_until else None

    def check(self, counter: Counter) -> None:
        """Return where nothing is known against an attempt, which then asks the database.

        Raises:
            TooManyAttemptsError: the counter refuses, or another attempt is asking.
        """
        seconds = self.known(counter)
        if seconds is not None:
            raise TooManyAttemptsError(seconds)
        noted = self._noted.get(counter.digest)
        if noted and (now := self._now()) < noted.until:
            self._noted[counter.digest] = noted._replace(known_until=min(noted.until, now + ASKING_SECONDS))
        else:
            self.forget(counter.digest)

    def expect(self, counter: Counter) -> bool:
        """Whether an attempt will be refused, as far as is known; it may be that the database is to be asked."""
        noted = self._noted.get(counter.digest)
        return noted is not None and self._now() < noted.until

    def forget(self, *digests: bytes) -> None:
        """Have the database asked again about these counters."""
        for digest in digests:
            self._noted.pop(digest, None)
