"""PostgreSQL says "later" to any statement of a batch: nothing is written or parked, and it goes in after that."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID

import pytest

from chassis.identifiers import new_id
from chassis.postgres.database import Database
from chassis.settings import PostgresAddress
from events.user_events import UserErased, UserRegistered
from projectors.app import open_database
from projectors.consumer import checkpoints
from projectors.consumer.batches import BatchWriter, DecodedBatch
from projectors.consumer.checkpoints import Move
from projectors.consumer.writing import DATABASE_ERRORS
from projectors.decoding.records import DecodedEvent, Poison, RecordDecoder
from projectors.projections.catalogue import PROJECTIONS
from projectors.projections.user_subject import USERS
from read_model import generations
from tests.integration.projectors.stream import FakeRecord, new_user, record
from tests.refusing_proxy import LATER, RefusingProxy

TOPIC = "users.events"
#: More than any batch has.
STATEMENTS = 60

Records = Callable[[int], Sequence[FakeRecord]]
BATCHES: dict[str, Records] = {
    "live": lambda number: [registration(number)],
    "with an erasure and poison": lambda number: [
        registration(number),
        record(UserErased(new_id(), 2)),
        replace(registration(number), value=b"{"),
    ],
}


def registration(number: int) -> FakeRecord:
    return record(UserRegistered(user=new_user(number)))


@pytest.mark.parametrize("kind", BATCHES)
async def test_whatever_means_later_at_whichever_statement_is_tried_again(
    query_database: PostgresAddress, database: Database, kind: str
) -> None:
    one = replace(query_database, pool_size=1, max_overflow=0)
    refused = position = 0
    before = (0, 0, 0)
    async with (
        RefusingProxy(one).listening() as proxy,
        open_database(proxy.address, application="test") as proxied,
    ):
        async with database.connection() as connection:
            generation = await generations.serving(connection, "users")
            await checkpoints.read(connection, generation, TOPIC, {0: 0}, UUID(int=7))
        writer = BatchWriter(proxied, PROJECTIONS["users"], generation, TOPIC)
        for state in LATER:
            for statement in range(1, STATEMENTS):
                items = read(BATCHES[kind](position), position)
                batch = DecodedBatch(items, [Move(0, position, position + len(items), None)])
                proxy.refuse(statement, state)
                try:
                    await writer.write(batch)
                except DATABASE_ERRORS:
                    assert await written(database) == before, f"{state} at statement {statement}"
                    await writer.write(batch)
                position, before = position + len(items), await written(database)
                if not proxy.has_refused:
                    break
                refused += 1
            else:
                raise AssertionError(f"{kind} has no end")
    assert before == (position, position // len(items), position // len(items) * (len(items) - 1) // 2)
    assert refused >= len(LATER)


def read(records: Sequence[FakeRecord], position: int) -> list[DecodedEvent | Poison]:
    decoder = RecordDecoder(USERS)
    return [decoder.read(replace(one, partition=0, offset=position + number)) for number, one in enumerate(records)]


async def written(database: Database) -> tuple[int, int, int]:
    """The checkpoint, and how many people were registered, and records parked."""
    async with database.connection() as connection:
        row = await connection.fetchrow(
            "SELECT (SELECT position FROM checkpoints WHERE projection = 'users'),"
            " (SELECT count(*) FROM users_g1), (SELECT count(*) FROM parked_records)"
        )
    assert row is not None
    return tuple(row)
