"""Attempts on one counter run a few at a time in a process; who waits while one is refused is refused with it.

So a flood on one account holds few connections to the database, few places in the queue of hashes and few among the
requests at work; and right passwords that come at once are not taken for guesses: an attempt counts as a failure until
it has succeeded. The devices of one account share a line, however many tokens it has, but no refusals: each device has
a counter of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from command_api.credentials.attempts import TooManyAttemptsError

#: Enough to keep two threads busy while others wait for the database, and half of the failures that are let through.
AT_ONCE: Final = 4
#: More in one line are a flood.
WAITING: Final = 64
#: After this many seconds an attempt that found the line full may come again.
RETRY_SECONDS: Final = 1


@dataclass(slots=True)
class _Line:
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    #: Attempts in the line; with the last of them it is forgotten.
    attempts: int = 0
    refusals: int = 0
    seconds: int = 0


class Lines:
    """A line for each identifier, account of devices or user who has attempts now."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._lines: dict[Hashable, _Line] = {}

    @asynccontextmanager
    async def turn(self, whose: Hashable, *, one_counter: bool = True) -> AsyncIterator[None]:
        """Hold a place in the line for the block; `one_counter` says whether all in it are counted together.

        Raises:
            TooManyAttemptsError: the line is full, or the block of another attempt on the counter raised it meanwhile.
        """
        line = self._lines.setdefault(whose, _Line())
        if line.attempts >= AT_ONCE + WAITING:
            raise TooManyAttemptsError(RETRY_SECONDS)
        line.attempts += 1
        try:
            refusals = line.refusals
            async with line.places:
                if one_counter and line.refusals > refusals:
                    raise TooManyAttemptsError(line.seconds)
                try:
                    yield
                except TooManyAttemptsError as error:
                    line.refusals += 1
                    line.seconds = error.seconds
                    raise
        finally:
            line.attempts -= 1
            if not line.attempts:
                del self._lines[whose]
