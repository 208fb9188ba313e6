"""The ring tells each reader of what it wants, from where it is, and lets the oldest records go."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import pytest

from event_api.log import ring as module
from event_api.log.ring import Item, Ring


@dataclass
class Record:
    partition: int
    offset: int
    key: bytes | None = b"ann"
    size: int = 100
    timestamp: int = 1


@dataclass(frozen=True)
class Wants:
    key: bytes | None = None
    odd: bool = False
    has_every_erasure: bool = False

    def wants(self, item: Item) -> bool:
        return self.key in {None, item.key} and (not self.odd or item.offset % 2 == 1)


def append(ring: Ring, *records: Record, ends: dict[int, int] | None = None, seen: int | None = None) -> None:
    ring.append(records, ends or {}, seen)


def places(entries: Iterable[module.RingEntry]) -> list[tuple[int, int]]:
    return [(entry.item.partition, entry.item.offset) for entry in entries]


def test_a_reader_is_told_of_what_it_wants_and_begins_where_it_is() -> None:
    ring = Ring(UUID(int=1), (0, 5), 1000, 0)
    append(ring, Record(0, 0), Record(1, 5), Record(0, 1))
    everything = ring.subscribe(Wants(), (0, 6))
    bob = ring.subscribe(Wants(b"bob"), (0, 5))
    odd = ring.subscribe(Wants(odd=True), (2, 6))

    append(ring, Record(0, 3, b"bob"), Record(1, 8))

    # What is behind it in one partition of an entry that is ahead in another is the reader's own to pass over.
    assert places(everything.behind) == [(0, 0), (1, 5), (0, 1)]
    assert places(everything.pending) == [(0, 3), (1, 8)]
    assert places(bob.behind + bob.pending) == [(0, 3)]
    assert places(odd.pending) == [(0, 3)]
    assert ring.end == (4, 9)
    assert bob.news.is_set()


def test_ends_move_without_records_and_never_back() -> None:
    ring = Ring(UUID(int=1), (0, 5), 1000, 0)

    append(ring, ends={0: 3, 1: 4}, seen=2000)
    append(ring, seen=None)

    assert (ring.end, ring.seen) == ((3, 5), 2000)


def test_a_reader_that_left_is_told_no_more() -> None:
    ring = Ring(UUID(int=1), (0,), 1000, 0)
    reader = ring.subscribe(Wants(b"ann"), (0,))

    ring.unsubscribe(reader)
    ring.unsubscribe(reader)
    append(ring, Record(0, 0))

    assert reader.pending == []
    assert not reader.news.is_set()


def test_the_oldest_records_go_and_whoever_needs_them_cannot_begin_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RING_RECORDS", 8)
    ring = Ring(UUID(int=1), (0, 0), 1000, 0)
    for offset in range(11):
        append(ring, Record(offset % 2, offset // 2))

    assert ring.start == (2, 1)
    assert ring.has_all_after((2, 1))
    assert not ring.has_all_after((2, 0))
    assert len(ring.subscribe(Wants(), (2, 1)).behind) == 8


def test_few_large_records_count_as_much_as_many_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RING_BYTES", 1000)
    ring = Ring(UUID(int=1), (0,), 1000, 0)

    for offset in range(4):
        append(ring, Record(0, offset, size=400))

    assert ring.start == (2,)


def test_a_reader_that_takes_nothing_is_let_go_and_learns_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PENDING", 2)
    ring = Ring(UUID(int=1), (0,), 1000, 0)
    reader = ring.subscribe(Wants(), (0,))

    append(ring, *(Record(0, offset) for offset in range(5)))

    assert reader.fell_behind
    assert reader.news.is_set()
    assert reader.pending == []


def test_the_end_of_the_topic_wakes_everybody() -> None:
    ring = Ring(UUID(int=1), (0,), 1000, 0)
    readers = [ring.subscribe(Wants(), (0,)), ring.subscribe(Wants(b"ann"), (0,))]

    ring.close()

    assert all(reader.news.is_set() for reader in readers)


def test_a_record_that_cannot_be_read_changes_nothing() -> None:
    class Fails(Wants):
        def wants(self, item: Item) -> bool:
            raise OverflowError(item.offset)

    ring = Ring(UUID(int=1), (0,), 1000, 0)
    fails, reader = ring.subscribe(Fails(b"ann"), (0,)), ring.subscribe(Wants(), (0,))

    for _ in range(2):
        with pytest.raises(OverflowError):
            append(ring, Record(0, 0, b"bob"), Record(0, 1), seen=2000)
    assert (ring.end, ring.seen, reader.pending) == ((0,), 1000, [])
    ring.unsubscribe(fails)
    append(ring, Record(0, 0, b"bob"), Record(0, 1))

    assert places(reader.pending) == [(0, 0), (0, 1)]
