"""One poll for all who look: it goes on without anybody, so that the last hour is known to whoever comes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

import structlog

from chassis.clock import utc_now
from chassis.lifecycle import wait_for_event
from console.overview.figures import LEVELS, RATES, Count, Figure, Histogram
from console.overview.history import History
from console.overview.observation import Observation
from console.overview.scrape import growth
from outbox.figures import QUANTILES, quantiles

log = structlog.get_logger("console")

#: The pause while somebody watches. With the time for the answers a cause is on the page after 5 s, and at most 13 s.
PAUSE_SECONDS: Final = 5.0
#: The pause while nobody does: twice a minute of the last hour.
IDLE_SECONDS: Final = 30.0
#: The 50th and 99th percentile are of so long: enough to be calm, short enough to tell of now.
RECENT: Final = timedelta(minutes=5)
#: Observations of that time, while somebody watches.
_MOST: Final = int(RECENT.total_seconds() / PAUSE_SECONDS)


class Watch:
    """The last look, the looks before it, and the last hour."""

    def __init__(
        self,
        look: Callable[[], Awaitable[Observation]],
        *,
        now: Callable[[], datetime] = utc_now,
        pause: float = PAUSE_SECONDS,
        idle: float = IDLE_SECONDS,
    ) -> None:
        """Nothing was seen yet; `pause` and `idle` are the seconds between looks with viewers, and without."""
        self._look, self._pause, self._idle = look, pause, idle
        #: The clock by which the age of what was seen is told.
        self.now = now
        self._news = asyncio.Event()
        self._wanted = asyncio.Event()
        self._viewers = 0
        self._seen: deque[Observation] = deque(maxlen=_MOST)
        self.history = History()

    @property
    def latest(self) -> Observation | None:
        """The last look."""
        return self._seen[-1] if self._seen else None

    async def run(self) -> None:
        """Look again and again, until cancelled; a look that fails is told in the log, and the next one comes."""
        while True:
            self._wanted.clear()
            try:
                self.note(await self._look())
            except Exception:
                log.exception("console.look_failed")
            await asyncio.sleep(self._pause)  # whoever asks, and however often
            if not self._viewers:
                await wait_for_event(self._wanted, self._idle - self._pause)

    @contextmanager
    def viewing(self) -> Iterator[None]:
        """Look every PAUSE_SECONDS while the block lasts, however many there are."""
        self._viewers += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._viewers -= 1

    async def fresh(self, seconds: float) -> Observation | None:
        """A look at what is so now: that of a moment ago, or another one; after the seconds whatever there is."""
        seen = self.latest
        if seen is not None and (self.now() - seen.at).total_seconds() < self._pause:
            return seen
        self._wanted.set()
        return await self.news(seen, seconds)

    async def news(self, than: Observation | None, seconds: float) -> Observation | None:
        """The last look, once it is another than this; after the seconds whatever there is."""
        if self.latest is than:
            await wait_for_event(self._news, seconds)
        return self.latest

    def rate(self, count: Count) -> float | None:
        """The growth of a count a second, between the last two looks, of all processes that both have seen.

        None where there is none: each is new, or began anew.
        """
        if len(self._seen) < 2:
            return None
        before, latest = self._seen[-2], self._seen[-1]
        now, then = count(latest) or {}, count(before) or {}
        grown = [now[url] - then[url] for url in now.keys() & then.keys() if now[url] >= then[url]]
        passed = (latest.at - before.at).total_seconds()
        return sum(grown) / passed if grown and passed > 0 else None

    def quantiles(self, histogram: Histogram) -> dict[str, float]:
        """Quantiles of what was counted in RECENT, by all processes; none where nothing was."""
        *before, latest = [histogram(each) or {} for each in self._recent()] or [{}]
        grown = [
            growth(then, now)
            for url, now in latest.items()
            if (then := next((each[url] for each in before if url in each), None)) is not None
        ]
        bounds = sorted({bound for each in grown for bound in each})
        return quantiles([(bound, sum(each.get(bound, 0.0) for each in grown)) for bound in bounds], QUANTILES)

    def recent(self, figure: Figure, part: float) -> float | None:
        """The quantile of what was measured in RECENT, one value a look."""
        known = sorted(value for each in self._recent() if (value := figure(each)) is not None)
        return known[min(int(part * len(known)), len(known) - 1)] if known else None

    def _recent(self) -> list[Observation]:
        return [each for each in self._seen if each.at >= self._seen[-1].at - RECENT]

    def note(self, seen: Observation) -> None:
        """Keep what was seen, and tell all who wait for it."""
        self._seen.append(seen)
        for name, count in RATES.items():
            self.history.add(name, seen.at, self.rate(count))
        for name, level in LEVELS.items():
            self.history.add(name, seen.at, level(seen))
        told, self._news = self._news, asyncio.Event()
        told.set()
