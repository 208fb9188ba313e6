"""One reader's way through the topic: from a position, through older records, then along the newest.

Its offsets move record by record, past those that its filter leaves out as well. So the position after any record is
exact, and nothing is missed or repeated where one part of the way ends and another begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from operator import ge
from typing import Final

from chassis.lifecycle import wait_for_event
from event_api.log.backlog import LogBacklog, LogChunk
from event_api.log.continuity import LogGoneError
from event_api.log.positions import LogPosition, Offsets, PositionSeal
from event_api.log.ring import Filter, Item, Ring, RingEntry, TailSubscription

#: A reader waits no longer until it has caught up: the topic's end may come without a record that it wants.
CATCHING_UP_SECONDS: Final = 0.05

#: Records on the ring that one reader looks at before others have a turn: some milliseconds.
AT_ONCE: Final = 250


#: Raises LogGoneError where something may have come and gone since a position, of a topic that ends at these offsets.
RefuseLate = Callable[[LogPosition, Offsets], Awaitable[None]]


async def _keeps_all(_position: LogPosition, _ends: Offsets) -> None:
    """Of a topic that keeps everything nothing is missed."""


class Reading:
    """One reader; to be closed."""

    def __init__(  # noqa: PLR0913 - what a reader is made of
        self,
        ring: Ring,
        backlog: LogBacklog,
        seal: PositionSeal,
        wanted: Filter,
        *,
        begin: LogPosition,
        goal: Offsets,
        refuse_late: RefuseLate = _keeps_all,
    ) -> None:
        """Begin at a position of the ring's topic, with its newest time; where the topic ended then is the goal."""
        assert begin.newest is not None
        self._ring, self._backlog, self._seal, self._filter = ring, backlog, seal, wanted
        self._refuse_late = refuse_late
        self._offsets = list(begin.offsets)
        self._seen, self._newest = begin.seen, begin.newest
        self._lacks_erasures = begin.lacks_erasures or not wanted.has_every_erasure
        self._goal = goal
        self._subscription: TailSubscription | None = None
        #: The ring's entry when the last record was given, if our offsets are the ring's.
        self._entry: RingEntry | None = None
        self._ended = asyncio.get_running_loop().create_future()

    @property
    def is_ended(self) -> bool:
        """Whether nobody wants more of it."""
        return self._ended.done()

    @property
    def is_caught_up(self) -> bool:
        """Whether everything that was on the topic when the reader began has been given."""
        return all(map(ge, self._offsets, self._goal))

    @property
    def position(self) -> str:
        """The position after what was given."""
        entry = self._entry
        if entry is None:
            return self._sealed()
        if self._lacks_erasures:
            entry.lacking = entry.lacking or self._sealed()
            return entry.lacking
        entry.position = entry.position or self._sealed()
        return entry.position

    async def read(self, seconds: float) -> Iterator[Item]:
        """Wait at most so long for records, and give those that are wanted; the position moves as they are taken.

        All are to be taken before the next call. There may be none, before the time is over, too.

        Raises:
            LogAwayError: older records cannot be read now; the same call later goes on.
            LogGoneError: the topic is another or was set back, or what comes next was deleted from it, or may have
                been.
        """
        if self._ring.is_closed:
            raise LogGoneError("the topic is gone, or is another, or was set back")
        subscription = self._joined()
        if subscription is None:
            return await self._older(seconds)
        if subscription.behind:
            return await self._behind(subscription)
        if not subscription.pending:
            await wait_for_event(subscription.news, seconds if self.is_caught_up else min(seconds, CATCHING_UP_SECONDS))
        # Together, because these records are all that there are before this end.
        entries, subscription.pending = subscription.pending, []
        subscription.news.clear()
        if subscription.fell_behind:
            return iter(())
        return self._along(entries, self._ring.end, self._ring.seen, self._ring.newest)

    def end(self) -> None:
        """Nobody wants more of it: a wait is over."""
        if not self._ended.done():
            self._ended.set_result(None)
        if self._subscription is not None:
            self._subscription.news.set()

    def on_end(self, then: Callable[[], None]) -> None:
        """Call this once nobody wants more of it."""
        self._ended.add_done_callback(lambda _: then())

    async def ended_within(self, seconds: float) -> bool:
        """Wait so long, or until nobody wants more; say which."""
        await asyncio.wait({self._ended}, timeout=seconds)
        return self.is_ended

    def close(self) -> None:
        """Be told no more; harmless to repeat."""
        if self._subscription is not None:
            self._ring.unsubscribe(self._subscription)
            self._subscription = None

    def _joined(self) -> TailSubscription | None:
        """The place at the end of the topic, as soon as the ring has everything up to there."""
        if self._subscription is not None and self._subscription.fell_behind:
            self.close()
        if self._subscription is None and self._ring.has_all_after(self._offsets):
            self._subscription = self._ring.subscribe(self._filter, self._offsets)
        return self._subscription

    async def _older(self, seconds: float) -> Iterator[Item]:
        """A chunk of the first partition in which we are behind the ring; whoever begins alike reads alike."""
        start = self._ring.start
        number = next(number for number, offset in enumerate(self._offsets) if offset < start[number])
        chunk = self._backlog.chunk(self._ring, number, self._offsets[number], until=start[number])
        await asyncio.wait({chunk, self._ended}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not chunk.done():
            return iter(())
        found = chunk.result()
        # After the fetch: what it did not find may have gone just before.
        await self._refuse_late(self._place(), self._ring.end)
        return self._through(number, found)

    async def _behind(self, subscription: TailSubscription) -> Iterator[Item]:
        """Some of what was on the ring when we began: reading all at once would hold up everybody."""
        await asyncio.sleep(0)
        entries, subscription.behind = subscription.behind[:AT_ONCE], subscription.behind[AT_ONCE:]
        wanted = [entry for entry in entries if self._filter.wants(entry.item)]
        return self._along(wanted, entries[-1].offsets, entries[-1].seen, entries[-1].newest)

    def _through(self, number: int, chunk: LogChunk) -> Iterator[Item]:
        self._entry = None
        for item in chunk.after(self._offsets[number]):
            self._offsets[number], self._newest = item.offset + 1, max(self._newest, item.timestamp)
            if self._filter.wants(item):
                yield item
        self._offsets[number] = max(self._offsets[number], chunk.next)

    def _along(self, entries: Iterable[RingEntry], end: Offsets, seen: int, newest: int) -> Iterator[Item]:
        for entry in entries:
            if entry.item.offset >= self._offsets[entry.item.partition]:
                self._move(entry.offsets, entry.seen, entry.newest)
                # The place is the ring's, and no surer: then this position is everybody's.
                times = self._seen, self._newest
                is_shared = tuple(self._offsets) == entry.offsets and times == (entry.seen, entry.newest)
                self._entry = entry if is_shared else None
                yield entry.item
        self._entry = None
        self._move(end, seen, newest)

    def _move(self, offsets: Offsets, seen: int, newest: int) -> None:
        self._offsets = list(map(max, self._offsets, offsets))
        self._seen, self._newest = max(self._seen, seen), max(self._newest, newest)

    def _place(self) -> LogPosition:
        offsets, lacks = tuple(self._offsets), self._lacks_erasures
        return LogPosition(self._ring.topic_id, self._seen, offsets, self._newest, lacks_erasures=lacks)

    def _sealed(self) -> str:
        return self._seal.seal(self._place())
