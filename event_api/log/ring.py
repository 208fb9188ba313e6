"""The newest records of the topic, in memory, and who is told of each that comes.

One task appends (event_api/log/tail.py); everything here happens between two awaits, so that whoever looks sees records
and ends that belong together. A reader who asks for one user is found by that user's key, so a record costs no more
than the readers who want it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import le
from typing import Final, Protocol
from uuid import UUID

from event_api.log.positions import Offsets

#: The ring holds so many: the newest records of some seconds under load, so that whoever reconnects begins there.
RING_RECORDS: Final = 10_000
RING_BYTES: Final = 16 * 1024 * 1024
#: So much more than either is kept before the oldest are let go: they go together, since a list's head is slow to cut.
_SLACK: Final = 1.25
#: Records that one reader may be behind; it then reads them from the topic. A stream takes what comes at once.
MOST_PENDING: Final = 2_000


class Item(Protocol):
    """A record, as far as the log knows it."""

    partition: int
    offset: int
    key: bytes | None
    #: Bytes.
    size: int
    #: When it was appended, in milliseconds since 1970, by the broker.
    timestamp: int


class Filter(Protocol):
    """Tells the records that a reader wants."""

    @property
    def key(self) -> bytes | None:
        """The only key that it wants; None for any."""

    @property
    def has_every_erasure(self) -> bool:
        """Whether it leaves out no tombstone."""

    def wants(self, item: Item) -> bool:
        """Whether it wants this one."""


@dataclass(eq=False, slots=True)
class RingEntry:
    """A record on the ring, and how far the topic had been read with it."""

    item: Item
    offsets: Offsets
    seen: int
    newest: int
    #: The texts of the position after it, once somebody has asked: the same for all who have every erasure, and for all
    #: others.
    position: str | None = None
    lacking: str | None = None


@dataclass(eq=False, slots=True)
class TailSubscription:
    """One reader at the end of the topic."""

    filter: Filter
    #: Records of its key on the ring when it began; whether it wants them is for the reader to see, some at a time.
    behind: list[RingEntry]
    #: Those that it wants of what came since.
    pending: list[RingEntry] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    #: It did not take what it was told of, and is told no more.
    fell_behind: bool = False

    def tell(self, entry: RingEntry) -> None:
        """A record that it wants has come."""
        self.pending.append(entry)
        self.news.set()


class Ring:
    """The newest records of one topic, and its readers; another topic of that name has another ring."""

    def __init__(self, topic_id: UUID, offsets: Iterable[int], seen: int, newest: int) -> None:
        """Empty, at these offsets.

        `seen` is when they were the topic's end, in seconds since 1970; nothing before them was appended after
        `newest`, in milliseconds since 1970.
        """
        self.topic_id = topic_id
        #: Records before these offsets are not here.
        self.start: Offsets = tuple(offsets)
        #: The offsets up to which the topic has been read, and when that was its end.
        self.end: Offsets = self.start
        self.seen = seen
        self.newest = newest
        #: The topic is gone, or is another, or was set back: nobody reads on here.
        self.is_closed = False
        self._entries: list[RingEntry] = []
        self._bytes = 0
        self._all: set[TailSubscription] = set()
        self._by_key: dict[bytes, set[TailSubscription]] = {}

    def append(self, items: Sequence[Item], ends: Mapping[int, int], seen: int | None) -> None:
        """Add records, in their order, and tell who wants them.

        `ends` is how far each partition was read, records or not; `seen` is a time at which these were the ends of all,
        None where that is not known.
        """
        offsets, newest = list(self.end), self.newest
        entries = []
        for item in items:
            offsets[item.partition], newest = item.offset + 1, max(newest, item.timestamp)
            entries.append(RingEntry(item, tuple(offsets), self.seen, newest))
        for partition, end in ends.items():
            offsets[partition] = max(offsets[partition], end)
        # A filter reads the record, which may fail: up to here nothing has changed, so all of it can be tried again.
        told = [(entry, self._who_want(entry.item)) for entry in entries]
        self._entries += entries
        self._bytes += sum(item.size for item in items)
        self.end, self.seen = tuple(offsets), max(self.seen, seen or 0)
        # Of a log that was read to its end then nothing is younger, not even what nobody reads, such as markers.
        self.newest = max(newest, self.seen * 1000)
        for entry, readers in told:
            self._tell(entry, readers)
        self._let_go()

    def has_all_after(self, offsets: Sequence[int]) -> bool:
        """Whether every record behind these offsets is here, or still to come."""
        return all(map(le, self.start, offsets))

    def subscribe(self, wanted: Filter, offsets: Sequence[int]) -> TailSubscription:
        """Begin behind these offsets, of which `has_all_after` holds; to be ended by `unsubscribe`."""
        # Those before are behind the reader in every partition.
        first = bisect_right(self._entries, False, key=lambda entry: not all(map(le, entry.offsets, offsets)))
        key = wanted.key
        behind = [entry for entry in self._entries[first:] if key is None or entry.item.key == key]
        subscription = TailSubscription(wanted, behind)
        self._readers(wanted).add(subscription)
        return subscription

    def unsubscribe(self, subscription: TailSubscription) -> None:
        """End it; harmless to repeat."""
        readers = self._readers(subscription.filter)
        readers.discard(subscription)
        if subscription.filter.key is not None and not readers:
            del self._by_key[subscription.filter.key]

    def close(self) -> None:
        """Nothing more comes; wake everybody, so that they notice."""
        self.is_closed = True
        for readers in (self._all, *self._by_key.values()):
            for subscription in readers:
                subscription.news.set()

    def _readers(self, wanted: Filter) -> set[TailSubscription]:
        return self._all if wanted.key is None else self._by_key.setdefault(wanted.key, set())

    def _who_want(self, item: Item) -> list[TailSubscription]:
        readers = chain(self._all, self._by_key.get(item.key or b"", ()))
        return [subscription for subscription in readers if subscription.filter.wants(item)]

    def _tell(self, entry: RingEntry, readers: Iterable[TailSubscription]) -> None:
        for subscription in readers:
            if not subscription.fell_behind:
                subscription.tell(entry)
                if len(subscription.pending) > MOST_PENDING:
                    subscription.pending.clear()
                    subscription.fell_behind = True
                    self.unsubscribe(subscription)

    def _let_go(self) -> None:
        """Forget the oldest records, once there are many too many."""
        if len(self._entries) <= RING_RECORDS * _SLACK and self._bytes <= RING_BYTES * _SLACK:
            return
        gone, kept_bytes = 0, self._bytes
        while gone < len(self._entries) and (len(self._entries) - gone > RING_RECORDS or kept_bytes > RING_BYTES):
            kept_bytes -= self._entries[gone].item.size
            gone += 1
        self.start = self._entries[gone - 1].offsets
        self._bytes = kept_bytes
        del self._entries[:gone]
