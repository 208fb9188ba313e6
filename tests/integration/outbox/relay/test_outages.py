"""Servers that die or hang under the relay."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from chassis.http.health import NotReadyError
from tests.integration.outbox.private_servers import Private
from tests.integration.outbox.relaying import relaying, until_phase
from tests.integration.outbox.storm.outage import Outage
from tests.integration.outbox.traffic import append, append_many, consume, until_empty
from tests.servers.private_servers import PrivateServers, private_servers

# The servers are children of the loop that started them.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers_to_kill() -> AsyncIterator[PrivateServers]:
    """Those of all tests of this file."""
    async with private_servers(durable=True) as servers:
        yield servers


@pytest_asyncio.fixture(loop_scope="module")
async def private(servers_to_kill: PrivateServers) -> Private:
    """Both running, with a database and topics of this test's own."""
    await servers_to_kill.start()
    return await Private.on(servers_to_kill)


async def test_a_broker_that_is_killed_and_comes_back_costs_delay_only(private: Private) -> None:
    users = [uuid4() for _ in range(50)]
    async with private.session() as session, relaying(private.settings):
        await append_many(session, users, 20)
        await private.kafka.kill()
        later = [uuid4() for _ in range(50)]
        await append_many(session, later, 20)
        await private.kafka.start()
        await until_empty(session, within=60)

    expected = {str(user): list(range(1, 21)) for user in users + later}
    assert (await consume(private.settings)).versions() == expected


async def test_ten_seconds_without_a_broker_refuse_no_command_and_lose_no_event(private: Private) -> None:
    outcome = await Outage(private, seconds=10).run()

    assert (outcome.refused, outcome.lost, outcome.repeated) == (0, 0, 0)
    assert outcome.gathered > 500, "commands must have gone on"
    assert outcome.drain_rate >= 5 * outcome.arrival_rate


async def test_an_idle_relay_notices_that_the_broker_is_gone_and_looks_what_hangs_when_it_is_back(
    private: Private,
) -> None:
    """Riding through would leave what a broker's death may have left hanging (outbox/publishing/hanging.py)."""
    user = uuid4()
    async with private.session() as session, relaying(private.settings) as relay:
        await append(session, user, 1)
        await until_empty(session)
        await until_phase(relay, "leading")
        await private.kafka.kill()
        await until_phase(relay, "failing")
        with pytest.raises(NotReadyError):
            await relay.state.check_ready()
        await private.kafka.start()
        await until_phase(relay, "leading")
        await append(session, user, 2)
        await until_empty(session)

    assert (await consume(private.settings)).versions() == {str(user): [1, 2]}


async def test_postgresql_that_is_killed_and_recovers_costs_delay_only(private: Private) -> None:
    users = [uuid4() for _ in range(50)]
    async with relaying(private.settings):
        async with private.session() as session:
            await append_many(session, users, 20)
        await private.postgres.kill()
        await private.postgres.start()
        async with private.session() as session:
            await until_empty(session, within=60)

    assert (await consume(private.settings)).versions() == {str(user): list(range(1, 21)) for user in users}
