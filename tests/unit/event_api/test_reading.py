"""A reader along the ring: some at a time, each once, and its position says no more than it knows."""

from dataclasses import replace
from itertools import chain
from typing import Any, cast
from uuid import UUID

from aiokafka import ConsumerRecord

from chassis.settings import Kafka
from event_api.log.backlog import LogBacklog
from event_api.log.positions import LogPosition, PositionSeal
from event_api.log.reading import AT_ONCE, Reading
from event_api.log.ring import Ring
from event_api.users.messages import MessageFilter, UserRecord
from events.user_events import UserRegistered
from tests.integration.projectors.stream import new_user, record

TOPIC = UUID(int=1)
SEAL = PositionSeal(["s" * 32])


USER = record(UserRegistered(user=new_user()))


def item(offset: int = 0) -> UserRecord:
    return UserRecord(cast("ConsumerRecord[Any, Any]", replace(USER, offset=offset)))


async def test_whoever_read_less_does_not_get_the_position_of_who_read_more() -> None:
    ring, backlog = Ring(TOPIC, (0,), 1000, 0), LogBacklog(Kafka.model_construct(), "users.events", UserRecord)
    surer, other = (
        Reading(ring, backlog, SEAL, MessageFilter(), begin=LogPosition(TOPIC, seen, (0,), 0), goal=(0,))
        for seen in (2000, 500)
    )
    for reading in (surer, other):
        assert list(await reading.read(0)) == []
    ring.append([item()], {}, None)

    seen: list[int] = []
    for reading in (surer, other):
        seen += [SEAL.open(reading.position).seen for _ in await reading.read(0)]
        reading.close()

    assert seen == [2000, 1000]


async def test_a_position_says_whether_a_filter_has_left_erasures_out_also_once_it_is_gone() -> None:
    ring, backlog = Ring(TOPIC, (0,), 1000, 0), LogBacklog(Kafka.model_construct(), "users.events", UserRecord)
    begin, registered, erased = LogPosition(TOPIC, 500, (0,), 0), "muster.user.registered.v1", "muster.user.erased.v1"
    cases = [
        (MessageFilter(), begin, False),
        (MessageFilter(frozenset({registered, erased})), begin, False),
        (MessageFilter(frozenset({registered})), begin, True),
        (MessageFilter(user=UUID((USER.key or b"").decode())), begin, True),
        (MessageFilter(), replace(begin, lacks_erasures=True), True),
    ]
    readings = [Reading(ring, backlog, SEAL, wanted, begin=place, goal=(0,)) for wanted, place, _ in cases]
    for reading in readings:
        assert list(await reading.read(0)) == []
    ring.append([item()], {}, None)

    # They are at the same record of the ring, whose text is shared.
    told = [[SEAL.open(reading.position).lacks_erasures for _ in await reading.read(0)] for reading in readings]
    for reading in readings:
        reading.close()

    assert told == [[lacks] for *_, lacks in cases]


async def test_whoever_begins_at_the_rings_start_reads_some_at_a_time_and_none_twice() -> None:
    count = 2 * AT_ONCE + 1
    ring, backlog = Ring(TOPIC, (0,), 1000, 0), LogBacklog(Kafka.model_construct(), "users.events", UserRecord)
    ring.append([item(offset) for offset in range(count)], {}, 2000)
    reading = Reading(ring, backlog, SEAL, MessageFilter(), begin=LogPosition(TOPIC, 500, (0,), 0), goal=(count,))

    found = [[each.offset for each in await reading.read(0)]]
    # Part of the way its position claims no more than what it has read.
    assert SEAL.open(reading.position) == LogPosition(TOPIC, 1000, (AT_ONCE,), USER.timestamp)
    ring.append([item(count)], {}, None)
    found += [[each.offset for each in await reading.read(0)] for _ in range(3)]
    reading.close()

    assert [len(part) for part in found] == [AT_ONCE, AT_ONCE, 1, 1]
    assert list(chain(*found)) == list(range(count + 1))
