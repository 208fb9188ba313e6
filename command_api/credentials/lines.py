"""Attempts on one counter run a few at a time in a process; who waits while one is refused is refused with it.

So a flood on one account holds few connections to the database and few places in the queue of hashes, and right
passwords that come at once are not taken for guesses: an attempt counts as a failure until it has succeeded.
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


@dataclass(slots=True)
class _Line:
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    #: Attempts in the line; with the last of them it is forgotten. HTTP_CONNECTIONS bounds it.
    attempts: int = 0
    refusals: int = 0
    seconds: int = 0


class Lines:
    """A line for each counter that has attempts now."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._lines: dict[Hashable, _Line] = {}

    @asynccontextmanager
    async def turn(self, counter: Hashable) -> AsyncIterator[None]:
        """Hold a place in the counter's line for the block.

        Raises:
            TooManyAttemptsError: the block of another attempt raised it meanwhile.
        """
        line = self._lines.setdefault(counter, _Line())
        line.attempts += 1
        try:
            refusals = line.refusals
            async with line.places:
                if line.refusals > refusals:
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
                del self._lines[counter]
