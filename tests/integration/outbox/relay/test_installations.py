"""Several installations on one Kafka are kept apart by RELAY_NAME, and notice where they are not."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from chassis.settings import Kafka, PostgresAddress, Topics
from local_stack.ports import free_port
from outbox.publishing.page_marker import RelayStopError
from outbox.relay.loop import Relay
from outbox.relay.process import serve
from outbox.settings import RelaySettings
from tests.conftest import Copies
from tests.databases import prepare_command
from tests.integration.muster_processes import environment, muster
from tests.integration.outbox.relaying import relaying, settings_for
from tests.integration.outbox.traffic import Connection, append, consume, until_empty
from tests.servers.private_servers import private_postgres


@pytest.fixture
async def elsewhere(command_databases: Copies) -> AsyncIterator[PostgresAddress]:
    """Another installation's command database."""
    async with command_databases.one() as address:
        yield address


@pytest.fixture
async def other_connection(elsewhere: PostgresAddress) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(**elsewhere.connect_arguments)
    yield connection
    await connection.close()


@pytest.fixture
def other_settings(elsewhere: PostgresAddress, kafka: Kafka, topics: Topics) -> RelaySettings:
    """A relay of the other installation, on the same topics."""
    return settings_for(elsewhere, kafka, topics, relay_name=f"other-{topics.events_topic}", relay_standby_poll_ms=50)


async def test_two_installations_with_two_names_publish_side_by_side_and_settle_their_own(
    connection: Connection, relay_settings: RelaySettings, other_connection: Connection, other_settings: RelaySettings
) -> None:
    one, two = uuid4(), uuid4()
    # Each starts three times: each time it reads the newest record of its own name.
    for version in (1, 2, 3):
        async with relaying(relay_settings), relaying(other_settings):
            await append(connection, one, version)
            await append(other_connection, two, version)
            await until_empty(connection)
            await until_empty(other_connection)

    assert (await consume(relay_settings)).versions() == {str(one): [1, 2, 3], str(two): [1, 2, 3]}


async def test_a_record_of_another_cluster_ends_the_process_with_exit_code_1_and_both_identities(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    """The database was moved to a new server by a dump, say: same name, other system identifier."""
    async with relaying(relay_settings):
        await append(connection, uuid4(), 1)
        await until_empty(connection)
    async with private_postgres(prepare_command, relay_settings.command_database.database) as (_, address):
        other = await asyncpg.connect(**address.connect_arguments)
        await append(other, uuid4(), 1)
        variables = environment(relay_settings, relay_settings, address, address, RELAY_NAME=relay_settings.relay_name)
        ended = await muster(variables, "relay", "--port", str(free_port()))
        left = await other.fetchval("SELECT count(*) FROM outbox")
        await other.close()

    assert (ended.code, left) == (1, 1)
    told = next(line for line in (ended.out + ended.err).splitlines() if "relay.cannot_go_on" in line)
    assert await identity(connection) in told
    assert "RELAY_NAME" in told


async def identity(connection: Connection) -> str:
    """What a record of this database names it."""
    words: str = await connection.fetchval(
        "SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' || current_database()"
    )
    return words


async def test_a_name_that_another_installation_uses_ends_the_process_with_the_ways_out(
    connection: Connection, relay_settings: RelaySettings, other_connection: Connection, other_settings: RelaySettings
) -> None:
    async with relaying(relay_settings):
        await append(connection, uuid4(), 1)
        await until_empty(connection)
    await append(other_connection, uuid4(), 1)
    same = other_settings.model_copy(update={"relay_name": relay_settings.relay_name, "relay_http_port": free_port()})

    with pytest.raises(RelayStopError, match=r"is about database .*RELAY_NAME of its own"):
        await asyncio.wait_for(Relay(same).run(asyncio.Event()), 30)

    assert await asyncio.wait_for(serve(same, asyncio.Event()), 30) == 1
    assert await other_connection.fetchval("SELECT count(*) FROM outbox") == 1
