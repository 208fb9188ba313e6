"""A row that cannot be published: it names itself, holds back what comes after it, and is taken out by a person."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from chassis.http.health import NotReadyError
from chassis.postgres.database import connect, disconnect
from chassis.postgres.roles import OPERATOR
from chassis.settings import PostgresAddress
from events.user_events import USER_EVENTS
from outbox import set_aside
from outbox.damage import KAFKA_REFUSES, Examiner
from outbox.relay.loop import Relay
from outbox.settings import RelaySettings
from tests.databases import as_role
from tests.integration.outbox.relaying import relaying, until_phase
from tests.integration.outbox.traffic import Connection, append, consume, until_empty
from tests.waiting import until


class Blind(Examiner):
    """Sees no damage, so that it is Kafka's to find."""

    def damage_of(self, row: Any) -> str | None:  # noqa: ARG002 - as the other's
        return None


@pytest.fixture
async def operator(command_database: PostgresAddress) -> AsyncIterator[Any]:
    """An operator's session on the command database."""
    connection = await connect(as_role(command_database, OPERATOR), application="test")
    yield connection
    await disconnect(connection)


async def why_not_ready(relay: Relay) -> str:
    with pytest.raises(NotReadyError) as raised:
        await relay.state.check_ready()
    return str(raised.value)


CUT_HEADERS = "UPDATE outbox SET headers = substring(headers, 1, length(headers) - 3) WHERE id = $1"
NULL_VALUE = "UPDATE outbox SET value = NULL WHERE id = $1"
NULL_HEADERS = "UPDATE outbox SET headers = NULL WHERE id = $1"


CASES = [
    (NULL_VALUE, Examiner(USER_EVENTS), "its type is muster.user.profile_changed.v1 and its value is null"),
    (NULL_HEADERS, Examiner(), "its headers is null"),
    # Seen only once Kafka has refused the page twice.
    (CUT_HEADERS, Examiner(), "its headers are no headers: they end too early"),
    (CUT_HEADERS, Blind(), KAFKA_REFUSES),
]


@pytest.mark.parametrize("case", CASES, ids=["null value", "null headers", "cut headers", "refused by Kafka"])
async def test_it_is_named_holds_back_what_follows_and_lets_all_but_its_own_flow_once_set_aside(
    case: tuple[str, Examiner, str], connection: Connection, operator: Any, relay_settings: RelaySettings
) -> None:
    damage, examiner, said = case
    before, its_own, other = uuid4(), uuid4(), uuid4()
    await connection.execute("ALTER TABLE outbox ALTER headers DROP NOT NULL")
    await append(connection, before, 1)
    number = await append(connection, its_own, 1)
    await append(connection, its_own, 2)
    await append(connection, other, 1)
    [whole] = await connection.fetch("SELECT value, headers FROM outbox WHERE id = $1", number)
    await connection.execute(damage, number)
    async with relaying(relay_settings, examiner=examiner) as relay:
        await until_phase(relay, "held")
        reason = await why_not_ready(relay)
        named = await connection.fetchval("SELECT damage FROM outbox WHERE id = $1", number)

        assert said in named
        assert all(part in reason for part in (f"row {number} ", str(its_own), named))
        assert (await consume(relay_settings)).versions() == {str(before): [1]}

        [damaged] = await connection.fetch("SELECT * FROM outbox WHERE id = $1", number)
        assert await set_aside.set_aside(operator, number)
        await append(connection, its_own, 3)
        await append(connection, other, 2)
        await until_phase(relay, "leading")

        expected = {str(before): [1], str(other): [1, 2]}
        await until_published(relay_settings, expected)
        [kept] = await connection.fetch("SELECT * FROM outbox_set_aside")
        assert dict(damaged) == {name: value for name, value in kept.items() if name != "set_aside_at"}

        await connection.execute("UPDATE outbox_set_aside SET value = $1, headers = $2", *whole)
        assert await set_aside.put_back(operator, number)
        await until_empty(connection)

    assert (await consume(relay_settings)).versions() == expected | {str(its_own): [1, 2, 3]}


async def until_published(settings: RelaySettings, versions: dict[str, list[int]]) -> None:
    """Wait until a consumer finds these, and nothing else."""

    async def there() -> bool:
        return (await consume(settings)).versions() == versions

    await until(there, within=30, what="the events to be published")


async def test_a_row_that_is_mended_where_it_is_goes_out_by_itself(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    user = uuid4()
    number = await append(connection, user, 1, b"no json")
    async with relaying(relay_settings) as relay:
        await until_phase(relay, "held")
        await connection.execute("UPDATE outbox SET value = '{}' WHERE id = $1", number)
        await until_empty(connection)
        await until_phase(relay, "leading")

    assert (await consume(relay_settings)).versions() == {str(user): [1]}


async def test_a_row_that_no_relay_has_named_is_not_taken_from_it(connection: Connection, operator: Any) -> None:
    number = await append(connection, uuid4(), 1)

    assert not await set_aside.set_aside(operator, number)
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 1
