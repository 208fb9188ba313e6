"""The feeds of one process: one for every generation that is to be fed and whose shape this version of the code knows.

The table `generations` says what is fed: the generation that serves, and those that stand by for a rollback. One that
is being built is fed by its rebuild (projectors/operations/rebuild.py), so that a replay of the whole topic slows down
nobody's live feed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import structlog

from chassis.http.health import NotReadyError
from chassis.lifecycle import wait_for_event
from chassis.outages import Outage
from chassis.postgres.database import Database, describe
from chassis.tracing.spans import Tracer
from projectors.consumer import metrics, parking
from projectors.consumer.feed import Feed
from projectors.consumer.parking import Suspicious, why_flooded
from projectors.consumer.writing import DATABASE_ERRORS
from projectors.projections.catalogue import PROJECTIONS
from projectors.settings import ProjectorSettings
from read_model import generations
from read_model.feeding import FeedState, unfed
from read_model.generations import Generation

log = structlog.get_logger("projectors.fleet")

#: A generation that begins or ends to be fed is noticed within this long.
FOLLOW_SECONDS: Final = 1.0
#: Parked records are few, or somebody is being told already: counting them is for a graph.
COUNT_SECONDS: Final = 10.0
FED: Final = frozenset({"serving", "standby"})


class Fleet:
    """Runs the feeds that `generations` asks for."""

    def __init__(
        self,
        settings: ProjectorSettings,
        database: Database,
        names: list[str] | None,
        tracer: Tracer | None = None,
    ) -> None:
        """Feed only the projections of these names; None means all."""
        self._tracer = tracer
        self._settings = settings
        self._database = database
        self._names = list(PROJECTIONS) if names is None else names
        self._feeds: dict[tuple[str, int], tuple[Feed, asyncio.Task[None]]] = {}
        #: The serving generations, among them those of shapes that this code does not know.
        self._serving: dict[str, Generation] = {}
        self._unknown: set[tuple[str, int]] = set()
        self._followed = False
        self._outage = Outage(log, "fleet.database_unavailable")
        self._turned = time.monotonic()
        self._counted = 0.0
        #: The suspicious records that each generation has met, at the last count.
        self._suspicious: Mapping[tuple[str, int], Suspicious] = {}

    @property
    def feeds(self) -> Mapping[tuple[str, int], Feed]:
        """The feeds that run now, by projection and generation."""
        return {key: feed for key, (feed, _) in self._feeds.items()}

    async def run(self, stopping: asyncio.Event) -> int:
        """Follow `generations` until `stopping` is set, then end the feeds in order.

        Returns:
            The exit code: 1 when a loop hangs or ended by itself, which only a new process can repair.
        """
        code = 0
        while not stopping.is_set() and not code:
            self._turned = time.monotonic()
            self._show_states()
            try:
                await self._follow()
                self._outage.over()
            except DATABASE_ERRORS as error:
                self._outage.failed(describe(error))
            code = await self._watch(stopping)
        await self._end(list(self._feeds))
        return code

    async def _watch(self, stopping: asyncio.Event) -> int:
        await wait_for_event(stopping, FOLLOW_SECONDS)
        for (name, number), (feed, task) in self._feeds.items():
            if task.done() and not stopping.is_set():
                error = None if task.cancelled() else task.exception()
                log.error("fleet.feed_ended", projection=name, generation=number, exc_info=error)
                return 1
            if feed.idle_seconds > self._settings.projectors_stall_seconds:
                log.error("fleet.feed_hangs", projection=name, generation=number, seconds=round(feed.idle_seconds))
                return 1
        return 0

    async def _follow(self) -> None:
        wanted: dict[tuple[str, int], Generation] = {}
        serving: dict[str, Generation] = {}
        async with self._database.connection() as connection:
            for name in self._names:
                for generation in await generations.read(connection, name):
                    if generation.status == "serving":
                        serving[name] = generation
                    if generation.status in FED and self._knows(generation):
                        wanted[name, generation.number] = generation
        self._serving = serving
        await self._end([key for key in self._feeds if key not in wanted])
        for key, generation in wanted.items():
            if key in self._feeds:
                self._feeds[key][0].follow(generation)
            else:
                projection = PROJECTIONS[generation.projection]
                feed = Feed(self._settings.feed, self._database, projection, generation, self._tracer)
                self._feeds[key] = feed, asyncio.create_task(feed.run(), name=feed.group)
        self._followed = True
        await self._look_for_unfed()
        await self._count_parked()

    async def _look_for_unfed(self) -> None:
        """A member without partitions is a spare only where others feed them all."""
        for feed in self.feeds.values():
            if feed.is_spare:
                async with self._database.connection() as connection:
                    feed.unfed = await unfed(connection, feed.generation, feed.topic, self._settings.topic_partitions)

    def _show_states(self) -> None:
        for (name, number), feed in self.feeds.items():
            feed.show_ages()
            now, _ = feed.state()
            for state in FeedState:
                metrics.FEED_STATE.labels(name, str(number), state).set(state is now)

    async def _count_parked(self) -> None:
        if time.monotonic() - self._counted < COUNT_SECONDS:
            return
        self._counted = time.monotonic()
        async with self._database.connection() as connection:
            found = await parking.counts(connection)
            self._suspicious = await parking.suspicious(connection)
        for name, number in self._feeds:
            metrics.PARKED_NOW.labels(name, str(number)).set(found.get((name, number), 0))
            met = self._suspicious.get((name, number), Suspicious())
            for kept, records in (("parked", met.parked), ("counted", met.counted)):
                metrics.FOREIGN_NOW.labels(name, str(number), kept).set(records)

    def _knows(self, generation: Generation) -> bool:
        key = generation.projection, generation.number
        known = PROJECTIONS[generation.projection].shape == generation.shape
        if not known and key not in self._unknown:
            # Another version of the code feeds it; or none does, and then its lag shows it.
            log.warning(
                "fleet.shape_unknown", projection=key[0], generation=key[1], shape=generation.shape,
                known=PROJECTIONS[key[0]].shape,
            )  # fmt: skip
            self._unknown.add(key)
        return known

    async def _end(self, keys: list[tuple[str, int]]) -> None:
        ending = [self._feeds.pop(key) for key in keys]
        for feed, _ in ending:
            feed.stop()
            name, number = feed.generation.projection, feed.generation.number
            metrics.FEED_STATE.remove_by_labels({"projection": name, "generation": str(number)})
        results = await asyncio.gather(*(task for _, task in ending), return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException):
                log.error("fleet.feed_failed", exc_info=error)

    async def check_ready(self) -> None:
        """Raise NotReadyError unless what serves of every projection is fed, assigned and not far behind.

        What stands by holds nobody back: it may be refused for good, until it is retired. `muster doctor` warns.
        """
        if not self._followed:
            raise NotReadyError("the query database has not yet told which generations there are")
        fed = {name for name, _ in self._feeds}
        for name in self._names:
            if name not in fed:
                raise NotReadyError(self._why_not_fed(name))
        for (name, number), feed in self.feeds.items():
            # Asked of each: one that stands by has then been near the end when it begins to serve.
            reason = feed.why_not_ready()
            if feed.generation.status != "serving":
                continue
            if reason is not None:
                raise NotReadyError(f"{name} generation {number} {reason}")
            counted = self._suspicious.get((name, number), Suspicious()).counted
            if counted:
                raise NotReadyError(f"{name} generation {number} {why_flooded(counted)}")

    def _why_not_fed(self, name: str) -> str:
        serving, shape = self._serving.get(name), PROJECTIONS[name].shape
        if serving is None:
            return f"no generation of {name} serves: run `muster migrate query`"
        shapes = f"generation {serving.number} of {name} has shape {serving.shape}, this version feeds shape {shape}"
        if serving.shape > shape:
            return f"{shapes}: a newer version has taken over"
        return f"{shapes}: run `muster rebuild {name}` from this version"

    async def check_live(self) -> None:
        """Raise NotReadyError when a loop has not turned for too long."""
        limit = self._settings.projectors_stall_seconds
        if time.monotonic() - self._turned > limit:
            raise NotReadyError(f"the process has not looked after its feeds for {limit:g} s")
        for (name, number), feed in self.feeds.items():
            if feed.idle_seconds > limit:
                raise NotReadyError(f"{name} generation {number} has not polled for {feed.idle_seconds:.0f} s")
