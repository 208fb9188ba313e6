"""Brokers that are set back to a copy of their disks: the topic ends before what was read, and the page mends it."""

import signal
from pathlib import Path

import httpx
import pytest

from chassis.postgres.database import Database
from chassis.settings import Kafka, PostgresAddress
from local_stack.kafka.broker import KafkaServer
from local_stack.ports import free_port
from projectors.fleet import Fleet
from tests.conftest import make_topics
from tests.integration.command_api.conftest import register
from tests.integration.disasters.disks import AT_ONCE, LOST, NEW, LosingLog, keep_disks, set_back
from tests.integration.disasters.installation import installed
from tests.integration.disasters.test_pages import rename, until_is_read, versions
from tests.integration.muster_processes import environment
from tests.integration.projectors.conftest import make_settings, running
from tests.integration.projectors.consumer.test_continuity import SAID_SECONDS, feed_all, stored_refusal
from tests.integration.projectors.consumer.test_feed import says
from tests.waiting import until

#: Of one user, so that the partition grows past what was read.
WAITING = 20


@pytest.mark.parametrize("grows", [False, True], ids=["shorter", "longer than it was"])
async def test_a_checkpoint_ahead_of_a_log_that_lost_its_end_is_refused_and_mended(
    command_database: PostgresAddress,
    query_database: PostgresAddress,
    api: httpx.AsyncClient,
    server_folder: Path,
    *,
    grows: bool,
) -> None:
    people = [await register(api, f"user{number}") for number in range(8)]
    async with KafkaServer(server_folder / "kafka", learn=False) as broker:
        kafka = Kafka.model_construct(kafka_bootstrap_servers=broker.bootstrap_servers)
        topics = await make_topics(kafka)
        variables = environment(
            kafka, topics, command_database, query_database,
            RELAY_HTTP_PORT=str(free_port()), PROJECTORS_HTTP_PORT=str(free_port()),
        )  # fmt: skip
        async with installed(variables, topics.events_topic) as muster_here:
            await muster_here.start("relay", "project")
            await until_is_read(query_database, people[0], [1])
            await muster_here.until_published()
            await keep_disks(broker, server_folder / "copy")

            # What the brokers will have lost: a change; an erasure and somebody new, too.
            await rename(api, people[0], "lost")
            if not grows:
                assert (await api.delete(f"/users/{people[7]['id']}")).status_code == 204
                newcomer = await register(api, "newcomer")
                await until_is_read(query_database, newcomer, [1])
            await muster_here.until_published()
            await until_is_read(query_database, people[0], [1, 2])
            await muster_here.until_all_are("fed")

            await set_back(broker, server_folder / "copy")
            if grows:
                # The relay is back before the projectors are, and has much to publish.
                muster_here.signal("project", signal.SIGSTOP)
                for number in range(WAITING):
                    await rename(api, people[0], f"waits{number}")
            await broker.start()
            if grows:
                await muster_here.until_published()
                muster_here.signal("project", signal.SIGCONT)
            await muster_here.until_all_are("refused")
            why = "set back to older disks" if grows else "but the topic ends at"
            assert all(why in reason for reason in await muster_here.reasons())
            await muster_here.walk("mend-a-checkpoint-ahead.md")

            assert (await versions(query_database, people[0]))[:2] == [1, 2]
            await rename(api, people[1], "after")
            await until_is_read(query_database, people[1], [1, 2])
            await muster_here.until_all_are("fed")


async def test_a_feed_notices_other_records_also_where_a_marker_is_at_its_last_ones_offset(
    server_folder: Path, query_database: PostgresAddress, database: Database
) -> None:
    assert len(LOST) <= AT_ONCE < len(NEW), "one transaction, and more than one"
    async with LosingLog.open(server_folder, partitions=1) as log:
        settings = make_settings(log.kafka, log.topics, query_database)
        # Before any transaction: a broker that starts may write the marker of one from before once more.
        await log.keep()
        await log.publish(LOST)
        await feed_all(settings, database)
        async with database.connection() as connection:
            last = await connection.fetchval("SELECT record_offset FROM checkpoints WHERE projection = 'users'")
        assert last == len(LOST) - 1
        # A transaction of one record less has its marker there.
        await log.lose_and_grow(first=last)

        fleet = Fleet(settings, database, ["users"])
        async with running(fleet.run):
            await until(lambda: says(fleet, "were set back to older disks"), within=SAID_SECONDS, what="the refusal")
        assert "the record at 0 came there later" in await stored_refusal(database)
