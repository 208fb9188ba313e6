"""Readers of a real topic get every record they want once, in order, wherever they begin and whatever happens."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest

from chassis.settings import Kafka, Topics
from event_api.log import ring as ring_module
from event_api.log.backlog import LogBacklog, LogChunk
from event_api.log.consuming import LogAwayError
from event_api.log.continuity import LogGoneError
from event_api.log.log import EventLog
from event_api.log.reading import Reading
from event_api.log.ring import Ring
from event_api.users.messages import MessageFilter, UserRecord
from tests.integration.projectors.stream import FakeRecord, Publisher, lives
from tests.waiting import until

SECRETS = ["s" * 32]
EVERYTHING = MessageFilter()


@asynccontextmanager
async def opened(
    kafka: Kafka, topics: Topics, kept: timedelta = timedelta(days=7), *, later: Callable[[], timedelta] = timedelta
) -> AsyncIterator[EventLog]:
    """The log, once the topic was reached; as so much later as `later` says then."""

    def now() -> float:
        return time.time() + later().total_seconds()

    async with EventLog.open(kafka, topics.events_topic, UserRecord, secrets=SECRETS, all_kept=kept, now=now) as log:

        async def reached() -> bool:
            try:
                log.require()
            except LogAwayError:
                return False
            return True

        await until(reached, within=30, what="the topic is reached")
        yield log


@pytest.fixture
async def publisher(kafka: Kafka, topics: Topics) -> AsyncIterator[Publisher]:
    async with Publisher.open(kafka, topics.events_topic) as publisher:
        yield publisher


async def take(reading: Reading, count: int) -> list[UserRecord]:
    """So many records; more would fail the test."""
    taken: list[UserRecord] = []
    async with asyncio.timeout(60):
        while len(taken) < count or not reading.is_caught_up:
            taken += [item for item in await reading.read(1) if isinstance(item, UserRecord)]
    assert len(taken) == count
    return taken


def by_user(records: list[UserRecord]) -> dict[bytes | None, list[int]]:
    found: dict[bytes | None, list[int]] = {}
    for item in records:
        found.setdefault(item.key, []).append(item.offset)
    return found


def counts(records: list[FakeRecord]) -> dict[bytes | None, int]:
    found: dict[bytes | None, int] = {}
    for item in records:
        found[item.key] = found.get(item.key, 0) + 1
    return found


def assert_all_once_in_order(found: list[UserRecord], published: list[FakeRecord]) -> None:
    offsets = by_user(found)
    assert {key: len(of_user) for key, of_user in offsets.items()} == counts(published)
    assert all(of_user == sorted(set(of_user)) for of_user in offsets.values())


async def read_by_all(kafka: Kafka, topics: Topics, count: int) -> None:
    """Until so many records are before the topic's end, and so before the ring of whoever opens it next."""
    async with opened(kafka, topics) as log:
        reading = await log.begin(EVERYTHING, "beginning")
        await take(reading, count)
        reading.close()


async def test_whoever_begins_at_the_beginning_or_now_gets_all_of_it_once(
    kafka: Kafka, topics: Topics, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "RING_RECORDS", 20)
    old, new = lives(10, 80, seed=1), lives(10, 60, seed=2)
    await publisher.publish(old)
    await publisher.publish(lives(3, 3, seed=3), abort=True)
    async with opened(kafka, topics) as log:
        first, now = await log.begin(EVERYTHING, "beginning"), await log.begin(EVERYTHING, "now")
        found = await take(first, len(old))

        await publisher.publish(new[:30])
        await publisher.publish(new[30:])

        assert_all_once_in_order(await take(now, len(new)), new)
        assert_all_once_in_order(found + await take(first, len(new)), old + new)
        assert first.is_caught_up
        for reading in (first, now):
            reading.close()


async def test_a_position_after_any_record_goes_on_behind_it_in_another_process(
    kafka: Kafka, topics: Topics, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "RING_RECORDS", 20)
    published = lives(10, 60, seed=4)
    await publisher.publish(published[:40])
    found: list[UserRecord] = []
    async with opened(kafka, topics) as one, opened(kafka, topics) as two:
        turns = itertools.cycle((one, two))
        reading = await next(turns).begin(EVERYTHING, "beginning")
        await publisher.publish(published[40:])
        async with asyncio.timeout(60):
            while len(found) < len(published):
                # The rest of what was read is thrown away, as with a connection that ends.
                for item in await reading.read(1):
                    assert isinstance(item, UserRecord)
                    found.append(item)
                    break
                position = reading.position
                reading.close()
                reading = await next(turns).resume(EVERYTHING, position)
        reading.close()

    assert_all_once_in_order(found, published)


async def test_a_filter_leaves_out_and_any_position_fits_it(kafka: Kafka, topics: Topics, publisher: Publisher) -> None:
    published = lives(10, 60, seed=5)
    some_user = published[0].key
    assert some_user is not None
    wanted = MessageFilter(frozenset({"muster.user.registered.v1", "muster.user.erased.v1"}))
    mine = [item for item in published if item.key == some_user]
    typed = [item for item in published if (dict(item.headers)["ce_type"] or b"").decode() in wanted.types]
    await publisher.publish(published)
    async with opened(kafka, topics) as log:
        first = await log.begin(EVERYTHING, "beginning")
        begun = first.position
        one_user = await log.resume(MessageFilter(user=UUID(some_user.decode())), begun)
        of_type = await log.resume(wanted, begun)

        assert_all_once_in_order(await take(one_user, len(mine)), mine)
        assert_all_once_in_order(await take(of_type, len(typed)), typed)
        rest = await log.resume(EVERYTHING, of_type.position)
        assert await take(rest, 0) == []
        for reading in (first, one_user, of_type, rest):
            reading.close()


async def test_a_position_is_gone_once_what_came_after_it_is_older_than_the_topic_keeps_everything(
    kafka: Kafka, topics: Topics, publisher: Publisher
) -> None:
    published = lives(8, 40, seed=6)
    async with opened(kafka, topics) as log:
        reading = await log.begin(EVERYTHING, "now")
        before = reading.position
        await publisher.publish(published)
        await take(reading, len(published))
        after = reading.position
        reading.close()

    async with opened(kafka, topics, later=lambda: timedelta(days=6, hours=23)) as log:
        for position in (before, after):
            (await log.resume(EVERYTHING, position)).close()
    async with opened(kafka, topics, later=lambda: timedelta(days=8)) as log:
        with pytest.raises(LogGoneError, match=r"is 8\.0 days old, .* every record for 7: changes or erasures"):
            await log.resume(EVERYTHING, before)
        # Nothing has come since, so nothing was missed.
        (await log.resume(EVERYTHING, after)).close()


async def test_a_reader_that_has_been_catching_up_for_longer_than_the_topic_keeps_everything_is_ended(
    kafka: Kafka, topics: Topics, publisher: Publisher
) -> None:
    """A tombstone that it has not come to may have left the topic meanwhile."""
    days = 0
    published = lives(8, 40, seed=7)
    await publisher.publish(published)
    await read_by_all(kafka, topics, len(published))
    async with opened(kafka, topics, later=lambda: timedelta(days=days)) as log:
        reading = await log.begin(EVERYTHING, "beginning")
        while not (first := list(await reading.read(1))):
            pass
        before = reading.position
        days = 8
        with pytest.raises(LogGoneError, match=r"is 8\.0 days old"):
            await take(reading, len(published))
        assert reading.position == before
        reading.close()

    assert first


async def test_whoever_wants_one_user_reads_that_users_partition_alone(
    kafka: Kafka, topics: Topics, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, chunk = list[int](), LogBacklog.chunk

    def noted(self: LogBacklog, ring: Ring, number: int, offset: int, until: int) -> asyncio.Task[LogChunk]:
        read.append(number)
        return chunk(self, ring, number, offset, until)

    published = lives(30, 120, seed=8)
    user = published[0].key or b""
    mine, later = [item for item in published if item.key == user], lives(5, 20, seed=9)
    await publisher.publish(published)
    await read_by_all(kafka, topics, len(published))
    monkeypatch.setattr(LogBacklog, "chunk", noted)
    async with opened(kafka, topics) as log:
        one_user = await log.begin(MessageFilter(user=UUID(user.decode())), "beginning")
        found = await take(one_user, len(mine))
        # Its position fits any filter.
        await publisher.publish(later)
        rest = await log.resume(EVERYTHING, one_user.position)

        assert_all_once_in_order(found, mine)
        assert len(set(read)) == 1
        assert_all_once_in_order(await take(rest, len(later)), later)
        for reading in (one_user, rest):
            reading.close()
