"""One poll for all who look: it goes on without anybody, so that the last hour is known to whoever comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from chassis.clock import utc_now
from chassis.lifecycle import wait_for_event
from console.overview.history import History
from console.overview.observation import Failed, Observation

log = structlog.get_logger("console")

#: While somebody watches: with the time for an answer a cause is on the page within ten seconds.
PAUSE_SECONDS: Final = 5.0
#: While nobody does: twice a minute of the last hour. A look costs some 50 ms of a core.
IDLE_SECONDS: Final = 30.0


class Watch:
    """What was seen last, the look before it, and the last hour."""

    def __init__(self, look: Callable[[], Awaitable[Observation]]) -> None:
        """Nothing was seen yet."""
        self._look = look
        self._news = asyncio.Event()
        self._wanted = asyncio.Event()
        self._watching = 0
        self.latest: Observation | None = None
        self.before: Observation | None = None
        self.history = History()

    async def run(self) -> None:
        """Look again and again, until cancelled; a look that fails is told in the log, and the next one comes."""
        while True:
            self._wanted.clear()
            try:
                self._note(await self._look())
            except Exception:
                log.exception("console.look_failed")
            await wait_for_event(self._wanted, PAUSE_SECONDS if self._watching else IDLE_SECONDS)

    async def fresh(self, seconds: float) -> Observation | None:
        """What is so now: a look of a moment ago, or another one; after the seconds whatever there is."""
        seen = self.latest
        if seen is not None and (utc_now() - seen.at).total_seconds() < PAUSE_SECONDS:
            return seen
        self._wanted.set()
        return await self.news(seen, seconds)

    async def news(self, than: Observation | None, seconds: float) -> Observation | None:
        """What was seen last, once it is another than this; after the seconds whatever there is."""
        if self.latest is than:
            if not self._watching:  # the pause under way is that of nobody
                self._wanted.set()
            self._watching += 1
            try:
                await wait_for_event(self._news, seconds)
            finally:
                self._watching -= 1
        return self.latest

    def rate(self, figure: Callable[[Observation], float | None]) -> float | None:
        """By how much a count grows a second, between the last two looks; None where a process began anew."""
        if self.latest is None or self.before is None:
            return None
        now, then = figure(self.latest), figure(self.before)
        passed = (self.latest.at - self.before.at).total_seconds()
        return None if now is None or then is None or now < then or not passed else (now - then) / passed

    def _note(self, seen: Observation) -> None:
        self.before, self.latest = self.latest, seen
        for name, value in (
            ("waiting", _oldest(seen)),
            ("published", self.rate(published)),
            ("applied", self.rate(applied)),
            ("behind", behind(seen)),
        ):
            self.history.add(name, seen.at, value)
        told, self._news = self._news, asyncio.Event()
        told.set()


def published(seen: Observation) -> float | None:
    """Events that the relay has published since it started."""
    return None if seen.relay.error else seen.relay.published


def accepted(seen: Observation) -> float | None:
    """Events that were committed, as far as the relay's count and its backlog tell."""
    count = published(seen)
    return None if count is None or isinstance(seen.outbox, Failed) else count + seen.outbox.backlog.events


def applied(seen: Observation) -> float | None:
    """Records that the generations that serve have taken, on average; they all take the same."""
    if isinstance(seen.projectors, Failed) or not seen.serving:
        return None
    taken = [seen.projectors.records.get((each.projection, each.number), 0) for each in seen.serving]
    return sum(taken) / len(taken)


def behind(seen: Observation) -> float | None:
    """Seconds that the slowest of the generations that serve is behind."""
    known = [each.seconds for each in seen.serving]
    return None if not known or None in known else max(each for each in known if each is not None)


def _oldest(seen: Observation) -> float | None:
    return None if isinstance(seen.outbox, Failed) else seen.outbox.backlog.oldest_seconds
