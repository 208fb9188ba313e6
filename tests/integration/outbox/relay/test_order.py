"""The interleavings that break cursors: each is three sessions and no sleep."""

import asyncio
from uuid import UUID, uuid4

from outbox.headers import encode_headers
from outbox.settings import RelaySettings
from tests.integration.outbox.relaying import Gate, relaying
from tests.integration.outbox.traffic import Connection, append, consume, envelope, until_empty
from tests.waiting import until


async def until_gone(connection: Connection, number: int) -> None:
    """Wait until one row was published and deleted."""

    async def gone() -> bool:
        return not await connection.fetchval("SELECT EXISTS (SELECT FROM outbox WHERE id = $1)", number)

    await until(gone, within=20, what=f"row {number} to be published")


async def test_an_event_that_commits_after_a_later_id_was_published_is_published_too(
    connection: Connection, other: Connection, relay_settings: RelaySettings
) -> None:
    """An id cursor has passed the lower id by then, and loses it."""
    late, early = uuid4(), uuid4()
    async with relaying(relay_settings):
        transaction = connection.transaction()
        await transaction.start()
        lower = await append(connection, late, 1)
        higher = await append(other, early, 1)
        await until_gone(other, higher)
        await transaction.commit()
        await until_empty(other)

    assert lower < higher
    assert (await consume(relay_settings)).versions() == {str(late): [1], str(early): [1]}


async def test_a_transaction_that_took_its_xid_early_does_not_invert_a_users_events(
    connection: Connection, other: Connection, relay_settings: RelaySettings
) -> None:
    """An (xid, id) cursor publishes version 2 first: its xid is the lower one."""
    user = uuid4()
    transaction = connection.transaction()
    await transaction.start()
    early_xid = await connection.fetchval("SELECT pg_current_xact_id()::text::bigint")
    async with other.transaction():
        later_xid = await other.fetchval("SELECT pg_current_xact_id()::text::bigint")
        await append(other, user, 1)
    await append(connection, user, 2)
    await transaction.commit()
    async with relaying(relay_settings):
        await until_empty(other)

    assert early_xid < later_xid
    assert (await consume(relay_settings)).versions() == {str(user): [1, 2]}


async def test_what_is_rolled_back_is_never_published(connection: Connection, relay_settings: RelaySettings) -> None:
    kept, dropped, inside = uuid4(), uuid4(), uuid4()
    transaction = connection.transaction()
    await transaction.start()
    await append(connection, dropped, 1)
    await transaction.rollback()
    async with connection.transaction():
        savepoint = connection.transaction()
        await savepoint.start()
        await append(connection, inside, 1)
        await savepoint.rollback()
        await append(connection, kept, 1)
    async with relaying(relay_settings):
        await until_empty(connection)

    assert (await consume(relay_settings)).versions() == {str(kept): [1]}


async def test_a_long_transaction_does_not_stall_other_users_events(
    connection: Connection, other: Connection, relay_settings: RelaySettings
) -> None:
    slow, quick = uuid4(), [uuid4() for _ in range(20)]
    async with relaying(relay_settings):
        async with connection.transaction():
            held = await append(connection, slow, 1)
            for user in quick:
                number = await append(other, user, 1)
            await until_gone(other, number)
            assert (await consume(relay_settings)).versions() == {str(user): [1] for user in quick}
        await until_gone(other, held)

    assert str(slow) in (await consume(relay_settings)).versions()


async def test_a_gap_in_the_sequence_stops_nothing(connection: Connection, relay_settings: RelaySettings) -> None:
    user = uuid4()
    await append(connection, user, 1)
    await connection.execute("SELECT setval(pg_get_serial_sequence('outbox', 'id'), 1000000)")
    await append(connection, user, 2)
    async with relaying(relay_settings):
        await until_empty(connection)

    assert (await consume(relay_settings)).versions() == {str(user): [1, 2]}


async def test_a_late_commit_while_a_batch_is_in_flight_is_published(
    connection: Connection, other: Connection, relay_settings: RelaySettings
) -> None:
    """Reading on from the batch's last id would pass over the lower id."""
    late, flying, next_one = uuid4(), uuid4(), uuid4()
    gate = Gate("before_commit")
    transaction = connection.transaction()
    await transaction.start()
    await append(connection, late, 1)
    await append(other, flying, 1)
    async with relaying(relay_settings, failpoint=gate):
        await gate.arrived.wait()
        await append(other, next_one, 1)
        await transaction.commit()
        gate.opened.set()
        await until_empty(other)

    assert (await consume(relay_settings)).versions() == {str(user): [1] for user in (late, flying, next_one)}


async def test_two_transactions_on_one_user_are_published_in_commit_order(
    connection: Connection, other: Connection, relay_settings: RelaySettings
) -> None:
    """The append follows the lock on the user's row: who waits for the row takes the higher id."""
    user = await _insert_user(connection)
    async with relaying(relay_settings):
        for version in range(2, 22, 2):
            first = connection.transaction()
            await first.start()
            await _change(connection, user, version)
            waiting = _in_transaction(other, user, version + 1)
            await _until_blocked(connection, other)
            await first.commit()
            await waiting
        await until_empty(connection)

    assert (await consume(relay_settings)).versions() == {str(user): list(range(2, 22))}


async def _insert_user(connection: Connection) -> UUID:
    user = uuid4()
    await connection.execute("CREATE TABLE subject (id uuid PRIMARY KEY, version bigint NOT NULL)")
    await connection.execute("INSERT INTO subject VALUES ($1, 1)", user)
    return user


async def _change(connection: Connection, user: UUID, version: int) -> None:
    event = envelope(user, version)
    await connection.execute(
        """
        WITH u AS (UPDATE subject SET version = $2 WHERE id = $1 RETURNING id)
        INSERT INTO outbox (event_id, subject_id, value, headers) SELECT $3, u.id, '{}', $4 FROM u
        """,
        user,
        version,
        event.event_id,
        encode_headers(event),
    )


def _in_transaction(connection: Connection, user: UUID, version: int) -> asyncio.Task[None]:
    async def change() -> None:
        async with connection.transaction():
            await _change(connection, user, version)

    return asyncio.create_task(change())


async def _until_blocked(watching: Connection, waiting: Connection) -> None:
    async def blocked() -> bool:
        pid = waiting.get_server_pid()
        return bool(await watching.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", pid))

    await until(blocked, within=10, what="the second change to wait for the first")
