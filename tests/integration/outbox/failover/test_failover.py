"""Under the relay PostgreSQL fails over to its synchronous standby, and the leader of a partition is killed."""

from pathlib import Path
from uuid import UUID, uuid4

from chassis.postgres.database import session
from chassis.settings import Kafka, PostgresAddress, Topics
from tests.databases import prepare_command
from tests.integration.outbox.failover.three_brokers import KILLED, working
from tests.integration.outbox.relaying import relaying, settings_for, until_phase
from tests.integration.outbox.traffic import Comparison, append_many, consume, until_empty
from tests.servers.standbys import pair

USERS = 50


async def test_the_relay_goes_on_at_the_standby_and_every_event_is_there_once(
    kafka: Kafka, topics: Topics, tmp_path: Path
) -> None:
    before, after = ([uuid4() for _ in range(USERS)] for _ in range(2))
    async with pair(tmp_path, prepare_command, synchronous=True) as servers:
        settings = settings_for(servers.address, kafka, topics, relay_name=topics.relay_topic, relay_standby_poll_ms=50)
        async with relaying(settings) as relay:
            await until_phase(relay, "leading")
            # A backlog, in whose midst the primary ends.
            await append(servers.address, before, 40)
            await servers.fail_over()
            await append(servers.address, after, 2)
            async with session(servers.address, application="test") as connection:
                await until_empty(connection)
        published = await consume(settings)

    wanted = {**{str(user): 40 for user in before}, **{str(user): 2 for user in after}}
    assert Comparison.of(published.versions(), wanted) == Comparison(lost=0, repeated=0, inverted=0)


async def test_the_relay_goes_on_without_one_of_three_brokers(tmp_path: Path) -> None:
    async with working(tmp_path) as scene:
        await scene.without(await scene.leader(), KILLED)


async def append(address: PostgresAddress, users: list[UUID], versions: int) -> None:
    async with session(address, application="test") as connection:
        await append_many(connection, users, versions)
