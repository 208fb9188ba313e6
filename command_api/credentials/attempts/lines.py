"""Attempts on one counter run a few at a time in a process; who waits while one is refused is refused with it.

So a flood on one account holds few connections to the database, few places in the queue of hashes and few among the
requests at work; and right passwords that come at once are not taken for guesses: an attempt counts as a failure until
it has succeeded.

Attempts with a device token wait apart from those without, by what the token proves: whose it is, and which password.
So one that has ended stands in nobody's way, and whoever has many of one's own takes no more places than with one. Of
that line each device may have a part: a stolen token, too, leaves places to the owner's other devices.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from command_api.credentials.attempts.rule import FloodError, TooManyAttemptsError

#: Enough to keep two threads busy while others wait for the database, and half of the failures that are let through.
AT_ONCE: Final = 4
#: More in one line are a flood.
WAITING: Final = 64
#: One device may run this many checks at once in its account's line. Two others still fit.
DEVICE_AT_ONCE: Final = 2
DEVICE_WAITING: Final = 6
#: After this many seconds an attempt that found the line full may come again.
RETRY_SECONDS: Final = 1


@dataclass(slots=True)
class _Line:
    places: asyncio.Semaphore
    #: Attempts in the line; with the last of them it is forgotten.
    attempts: int = 0
    refusals: int = 0
    seconds: int = 0


@dataclass(slots=True)
class Lines:
    """A line for each identifier, account of devices, device or user who has attempts now."""

    _lines: dict[Hashable, _Line] = field(default_factory=dict)

    @asynccontextmanager
    async def turn(self, counter: Hashable) -> AsyncIterator[None]:
        """Hold a place for the block, among all attempts that are counted together.

        Raises:
            FloodError: the line is full.
            TooManyAttemptsError: the block of another attempt in it raised it meanwhile.
        """
        async with self._place(counter, AT_ONCE, WAITING, shared=True):
            yield

    @asynccontextmanager
    async def turn_of_device(self, device: Hashable, account: Hashable) -> AsyncIterator[None]:
        """Hold a place for the block, among the attempts of a device and those of all devices of its account.

        Raises:
            FloodError: a line is full.
            TooManyAttemptsError: the block of another attempt of the device raised it meanwhile.
        """
        async with (
            self._place(("device", device), DEVICE_AT_ONCE, DEVICE_WAITING, shared=True),
            self._place(("account", account), AT_ONCE, WAITING, shared=False),
        ):
            yield

    @asynccontextmanager
    async def _place(self, whose: Hashable, at_once: int, waiting: int, *, shared: bool) -> AsyncIterator[None]:
        """Hold a place in one line; `shared` says whether a refusal of one is one of all."""
        line = self._lines.setdefault(whose, _Line(asyncio.Semaphore(at_once)))
        if line.attempts >= at_once + waiting:
            raise FloodError(RETRY_SECONDS)
        line.attempts += 1
        try:
            refusals = line.refusals
            async with line.places:
                if shared and line.refusals > refusals:
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
