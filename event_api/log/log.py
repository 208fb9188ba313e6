"""The topic for readers: where one may begin, and the machinery that it then reads with."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final, Literal, Self
from uuid import UUID

from aiokafka.partitioner import murmur2

from chassis.lifecycle import alongside
from chassis.settings import Kafka
from event_api.log.backlog import LogBacklog
from event_api.log.consuming import Wrap
from event_api.log.continuity import Bounds, LogGoneError, refuse_lost
from event_api.log.positions import LogPosition, Offsets, PositionSeal
from event_api.log.reading import Reading
from event_api.log.ring import Filter, Ring
from event_api.log.tail import Tail

#: Seconds since 1970.
Clock = Callable[[], float]
Beginning = Literal["beginning", "recent", "now"]
#: `recent` begins with so many of the newest offsets, over all partitions: a page at most, and mostly in memory.
RECENT_OFFSETS: Final = 1_000
_ANOTHER: Final = "the topic is another than the one that the position is of"


class ErasuresLeftOutError(Exception):
    """Whoever is at the position was not told of each erasure before it."""


class EventLog:
    """One topic."""

    def __init__(
        self, tail: Tail, backlog: LogBacklog, seal: PositionSeal, *, all_kept: timedelta, now: Clock = time.time
    ) -> None:
        """`all_kept` is for how long the topic keeps every record and every tombstone at least."""
        self._tail, self._backlog, self._seal = tail, backlog, seal
        self._all_kept, self._now = all_kept, now

    @classmethod
    @asynccontextmanager
    async def open(  # noqa: PLR0913 - what a log is read with
        cls,
        kafka: Kafka,
        topic: str,
        wrap: Wrap,
        *,
        secrets: Sequence[str],
        all_kept: timedelta,
        now: Clock = time.time,
    ) -> AsyncIterator[Self]:
        """Read the topic until the block ends; this succeeds while Kafka is away, and works as soon as it is there."""
        tail = Tail(kafka, topic, wrap)
        async with LogBacklog(kafka, topic, wrap) as backlog, alongside(tail.run()):
            yield cls(tail, backlog, PositionSeal(secrets), all_kept=all_kept, now=now)

    def require(self) -> None:
        """Return where the topic can be read now.

        Raises:
            LogAwayError: it cannot.
        """
        _ = self._tail.ring

    @property
    def topic_id(self) -> UUID:
        """The id of the topic that is there now; raises as `require`."""
        return self._tail.ring.topic_id

    @property
    def partitions(self) -> int:
        """The number of its partitions; raises as `require`."""
        return len(self._tail.ring.end)

    def read_position(self, text: str) -> LogPosition:
        """The place of a client, by a position of ours, whether or not the topic still has what follows.

        Raises:
            InvalidPositionError: the text is none.
            LogGoneError: it is of another topic.
            LogAwayError: the topic cannot be read now.
        """
        position, ring = self._seal.open(text), self._tail.ring
        if position.topic_id != ring.topic_id or len(position.offsets) != len(ring.end):
            raise LogGoneError(_ANOTHER)
        return position

    async def read_acknowledged(self, text: str) -> LogPosition:
        """The same, of a client that has dealt with all before it: the log must still be the one that it has read.

        Raises:
            ErasuresLeftOutError: a filter has left erasures out of it.
            InvalidPositionError, LogGoneError, LogAwayError: as `read_position`; or brokers were set back.
        """
        position, ring = self.read_position(text), self._tail.ring
        if position.lacks_erasures:
            raise ErasuresLeftOutError
        if position.newest is not None:
            await self._backlog.require_same_log(ring, position.offsets, position.newest)
        return position

    async def begin(self, wanted: Filter, beginning: Beginning) -> Reading:
        """A reader of the whole topic, of about its last RECENT_OFFSETS records, or of what comes from now on.

        Raises:
            LogAwayError: the topic cannot be read now.
        """
        ring, seen = self._tail.ring, int(self._now())
        bounds = await self._backlog.bounds(ring)
        position = LogPosition(ring.topic_id, seen, _offsets(bounds, beginning))
        return await self._reading(ring, wanted, position, bounds.ends)

    async def resume(self, wanted: Filter, text: str) -> Reading:
        """A reader who goes on at a position.

        Raises:
            InvalidPositionError: the text is none.
            LogGoneError: records after it may be gone from the topic, or tombstones, or the topic is another, or the
                brokers were set back to where it was not reached yet.
            LogAwayError: the topic cannot be read now.
        """
        position, ring = self.read_position(text), self._tail.ring
        bounds = await self._require(ring, position)
        await self._refuse_late(ring, position, bounds.ends)
        return await self._reading(ring, wanted, position, bounds.ends)

    async def _require(self, ring: Ring, position: LogPosition) -> Bounds:
        """The bounds of the topic, of which it was made sure as far as the position tells."""
        if position.newest is None:
            bounds = await self._backlog.bounds(ring)
            refuse_lost(position.offsets, bounds)
            return bounds
        return await self._backlog.require_same_log(ring, position.offsets, position.newest)

    async def _reading(self, ring: Ring, wanted: Filter, begin: LogPosition, goal: Offsets) -> Reading:
        if wanted.key is not None:
            begin = _past_others(begin, goal, wanted.key)
        if begin.newest is None or wanted.key is not None:
            # Nothing is known of what is skipped.
            begin = replace(begin, newest=await self._backlog.newest_before(ring, goal))
        late = partial(self._refuse_late, ring)
        return Reading(ring, self._backlog, self._seal, wanted, begin=begin, goal=goal, refuse_late=late)

    async def _refuse_late(self, ring: Ring, position: LogPosition, ends: Offsets) -> None:
        """Refuse where a record or a tombstone may have come and gone since the position was given.

        None can have where nothing came since, or only what is younger than all of it is kept for. Asked again while
        a reader catches up, which may take longer than that.
        """
        kept, now = self._all_kept.total_seconds(), self._now()
        if now - position.seen <= kept:
            return
        young = await self._backlog.first_since(ring, now - kept)
        for number, offset in enumerate(position.offsets):
            first = young[number]
            if offset < ends[number] and (first is None or first > offset):
                raise LogGoneError(
                    f"the position is {(now - position.seen) / 86400:.1f} days old, and the topic keeps"
                    f" every record for {kept / 86400:g}: changes or erasures may have been missed"
                )


def _offsets(bounds: Bounds, beginning: Beginning) -> Offsets:
    match beginning:
        case "beginning":
            return bounds.starts
        case "recent":
            back = max(1, RECENT_OFFSETS // len(bounds.ends))
            return tuple(max(start, end - back) for start, end in zip(bounds.starts, bounds.ends, strict=True))
        case "now":
            return bounds.ends


def _past_others(begin: LogPosition, ends: Offsets, key: bytes) -> LogPosition:
    """The same for who wants one key alone: past all partitions that it is not in, up to their ends.

    Kafka's default partitioner says where a key is, as it says to whoever writes our topic.
    """
    own = (murmur2(key) & 0x7FFFFFFF) % len(ends)
    return replace(
        begin,
        offsets=tuple(
            offset if number == own else max(offset, end)
            for number, (offset, end) in enumerate(zip(begin.offsets, ends, strict=True))
        ),
    )
