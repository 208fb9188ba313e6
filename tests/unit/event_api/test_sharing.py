"""A position says no more than its reader knows."""

from typing import Any, cast
from uuid import UUID

from aiokafka import ConsumerRecord

from chassis.settings import Kafka
from event_api.log.backlog import Backlog
from event_api.log.positions import Position, PositionSeal
from event_api.log.reading import Reading
from event_api.log.ring import Ring
from event_api.users.messages import UserRecord, Wanted
from events.user_events import UserRegistered
from tests.integration.projectors.stream import new_user, record

TOPIC = UUID(int=1)
SEAL = PositionSeal(["s" * 32])


def item() -> UserRecord:
    return UserRecord(cast("ConsumerRecord[Any, Any]", record(UserRegistered(user=new_user()))))


async def test_whoever_read_less_does_not_get_the_position_of_who_read_more() -> None:
    ring, backlog = Ring(TOPIC, (0,), 1000), Backlog(Kafka.model_construct(), "users.events", UserRecord)
    surer, other = (
        Reading(ring, backlog, SEAL, Wanted(), begin=Position(TOPIC, seen, (0,)), goal=(0,)) for seen in (2000, 500)
    )
    for reading in (surer, other):
        assert list(await reading.read(0)) == []
    ring.append([item()], {}, None)

    seen: list[int] = []
    for reading in (surer, other):
        seen += [SEAL.open(reading.position).seen for _ in await reading.read(0)]
        reading.close()

    assert seen == [2000, 1000]
