"""The counters on a real PostgreSQL do what the model says, also for attempts at once from several processes."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from chassis.postgres.database import Database, connect, disconnect
from chassis.postgres.roles import COMMAND, RELAY
from chassis.settings import PostgresAddress
from command_api.credentials.attempts.refusals import Refusals
from command_api.credentials.attempts.rule import (
    AttemptLimits,
    Counter,
    TooManyAttemptsError,
    of_device,
    of_identifier,
    of_self,
)
from command_api.credentials.attempts.store import AttemptStore, Candidate, Charge
from command_api.credentials.device_tokens import DeviceToken
from command_api.credentials.keys import CredentialKeys
from command_api.credentials.purge import purge_attempts
from command_api.passwords.hashing import Room
from command_api.passwords.lanes import HashingBusyError
from command_api.users.rows import public_user
from events.user_events import PublicUser
from tests.databases import as_role
from tests.integration.command_api.conftest import SECRET, Connection

KEYS = CredentialKeys.derive([SECRET])
LIMITS = AttemptLimits()
FEW = AttemptLimits(failures=3, window=timedelta(minutes=10), longest_refusal=timedelta(minutes=4), most=6)
ROOM = Room(known_devices=True, others=True)
BEGIN = datetime(2026, 11, 29, tzinfo=UTC)
INSERT = """
INSERT INTO users (id, version, event_id, status, email, email_key, email_verified, username, username_key, attributes,
    password_hash, created_at, updated_at)
VALUES ($1, 1, $1, 'active', 'ann@example.com', 'ann@example.com', false, 'ann', 'ann', '{}', 'a hash', now(), now())
"""


@pytest.fixture
async def databases(command_database: PostgresAddress) -> AsyncIterator[list[Database]]:
    """Three processes' ways to the database."""
    async with AsyncExitStack() as stack:
        opened = [Database.open(as_role(command_database, COMMAND), application="test") for _ in range(3)]
        yield [await stack.enter_async_context(each) for each in opened]


@pytest.fixture
def stores(databases: list[Database]) -> list[AttemptStore]:
    return [AttemptStore(database, KEYS, LIMITS) for database in databases]


@pytest.fixture
async def ann(database: Connection) -> UUID:
    """A user whose password's event was not kept."""
    user_id = uuid4()
    await database.execute(INSERT, user_id)
    return user_id


async def lets_in(store: AttemptStore, counter: Counter, now: datetime | None = None) -> Charge | None:
    try:
        return await store.charge(counter, ROOM, now)
    except TooManyAttemptsError:
        return None


def named(name: str) -> PublicUser:
    """A user of this name; nothing else of them is looked at."""
    return PublicUser(
        id=UUID(int=1), email="ann@example.com", username=name, email_verified=False, display_name=None, attributes={},
        is_active=True, status="active", version=1, created_at=BEGIN, updated_at=BEGIN,
    )  # fmt: skip


async def test_of_many_attempts_at_once_in_several_processes_so_many_are_let_in(
    stores: list[AttemptStore], database: Connection
) -> None:
    counter = of_self(KEYS, uuid4())

    charged = await asyncio.gather(*(lets_in(stores[number % 3], counter) for number in range(30)))

    assert len([charge for charge in charged if charge]) == LIMITS.failures
    kept = "SELECT cardinality(failed_at), refused_until - now() <= '1min', expires_at > now() FROM credential_attempts"
    assert tuple(await database.fetchrow(kept) or ()) == (LIMITS.failures, True, True)


async def test_an_attempt_that_is_taken_back_leaves_no_row(stores: list[AttemptStore], database: Connection) -> None:
    first, second = [await stores[0].charge(of_self(KEYS, UUID(int=1)), ROOM) for _ in range(2)]

    await stores[0].take_back(first)
    assert await database.fetchval("SELECT failed_at FROM credential_attempts") == [second.at]
    await stores[0].take_back(second)
    assert await database.fetchval("SELECT count(*) FROM credential_attempts") == 0


async def test_a_success_is_no_failure_and_forgives_but_does_not_forget(
    stores: list[AttemptStore], database: Connection
) -> None:
    counter = of_self(KEYS, UUID(int=1))
    row = "SELECT failed_at, forgiven_at, refused_until FROM credential_attempts"
    await stores[0].end(await stores[0].charge(counter, ROOM))
    assert await database.fetchrow(row) is None

    guess, success, under_way = [await stores[number].charge(counter, ROOM) for number in range(3)]
    await stores[0].end(success)

    assert tuple(await database.fetchrow(row) or ()) == ([], [under_way.at, guess.at], None)
    # What was under way meanwhile succeeds, too, or was not looked at.
    await stores[1].end(under_way)
    await stores[2].take_back(guess)
    assert await database.fetchrow(row) is None


async def test_beyond_the_most_of_a_window_a_success_gives_guessers_one_more_guess(
    databases: list[Database], database: Connection
) -> None:
    store, counter, guesses = AttemptStore(databases[0], KEYS, FEW), of_self(KEYS, UUID(int=1)), list[Charge]()
    now = BEGIN
    for _ in range(3 * FEW.most):
        now += timedelta(microseconds=1)
        if charge := await lets_in(store, counter, now):
            guesses.append(charge)
        if len(guesses) % (FEW.failures - 1) == 0:
            now += timedelta(microseconds=1)
            if owners := await lets_in(store, counter, now):
                await store.end(owners)

    assert len(guesses) == FEW.most
    assert guesses[-1].then_refuses == FEW.longest_refusal.total_seconds()
    now += FEW.longest_refusal
    assert (await store.charge(counter, ROOM, now)).then_refuses == FEW.longest_refusal.total_seconds()


async def test_a_refusal_that_was_carried_over_stays_when_an_attempt_is_taken_back(
    databases: list[Database], stores: list[AttemptStore]
) -> None:
    store, before, after = stores[0], named("before"), named("after")
    for _ in range(LIMITS.failures):
        await store.charge(of_identifier(KEYS, before.username), ROOM)
    under_way = await store.charge(of_identifier(KEYS, after.username), ROOM)
    async with databases[0].connection() as connection, connection.transaction():
        await store.carry(connection, before, after)

    await store.take_back(under_way)

    assert await lets_in(store, of_identifier(KEYS, after.username)) is None


async def test_a_refusal_says_when_to_come_back_and_writes_nothing(
    stores: list[AttemptStore], database: Connection
) -> None:
    counter = of_self(KEYS, uuid4())
    for _ in range(LIMITS.failures):
        await stores[0].charge(counter, ROOM, BEGIN)
    row = "SELECT xmin, cmin, c FROM credential_attempts c"
    before = await database.fetchrow(row)

    with pytest.raises(TooManyAttemptsError) as refused:
        await stores[1].charge(counter, ROOM, BEGIN + timedelta(seconds=0.5))

    assert refused.value.seconds == 60
    assert await database.fetchrow(row) == before


async def test_a_refusal_is_remembered_by_the_process_that_met_it_until_an_attempt_succeeds(
    stores: list[AttemptStore], ann: UUID
) -> None:
    one, other = stores[:2]
    for store in (one, other):
        store.refusals = Refusals(lambda: 0.0)  # nothing is forgotten by itself

    async def met(counter: Counter) -> list[Charge]:
        begun = [await one.charge(counter, ROOM, BEGIN) for _ in range(LIMITS.failures)]
        for store in (one, other):
            store.refusals.check(counter)
            assert not await lets_in(store, counter, BEGIN)
            with pytest.raises(TooManyAttemptsError):
                store.refusals.check(counter)
        return begun

    by_name, own = of_identifier(KEYS, "ann"), of_self(KEYS, ann)
    await one.succeed((await met(by_name))[-1], Candidate(ann, "ann", 1, "a hash", ann), None)
    await one.end((await met(own))[-1])

    for counter in (by_name, own):
        one.refusals.check(counter)
        assert await lets_in(one, counter, BEGIN)
        with pytest.raises(TooManyAttemptsError):
            other.refusals.check(counter)


async def test_a_known_device_has_a_counter_of_its_own_and_nobody_elses_token_has(
    stores: list[AttemptStore], ann: UUID
) -> None:
    store = stores[0]
    known = DeviceToken(ann, secrets.token_bytes(16), ann)
    not_anns = [
        DeviceToken(uuid4(), secrets.token_bytes(16), ann),
        DeviceToken(ann, secrets.token_bytes(16), uuid4()),  # the password was changed since
    ]
    for number in range(LIMITS.failures):
        charge, candidate = await store.charge_login("Ann@example.com", ([None, *not_anns])[number % 3], ROOM)
        assert charge.counter.kind == "identifier"
        assert candidate is not None
        assert (candidate.id, candidate.password_hash) == (ann, "a hash")

    with pytest.raises(TooManyAttemptsError):
        await store.charge_login("ann@example.com", not_anns[0], ROOM)
    charge, _ = await store.charge_login("ANN@example.com", known, ROOM)

    assert charge.counter.kind == "device"
    # The username is counted by itself.
    assert (await store.charge_login("ann", None, ROOM))[0].counter.kind == "identifier"


async def test_what_has_no_room_for_its_hash_is_not_charged_and_only_a_valid_token_has_that_of_known_devices(
    stores: list[AttemptStore], database: Connection, ann: UUID
) -> None:
    valid, ended = (DeviceToken(ann, secrets.token_bytes(16), event) for event in (ann, uuid4()))
    others, known_devices = Room(known_devices=False, others=True), Room(known_devices=True, others=False)

    for device, its, not_its in ((valid, known_devices, others), (ended, others, known_devices)):
        before = await database.fetchval("SELECT count(*) FROM credential_attempts")
        with pytest.raises(HashingBusyError):
            await stores[0].charge_login("ann", device, not_its)
        assert await database.fetchval("SELECT count(*) FROM credential_attempts") == before
        await stores[0].charge_login("ann", device, its)
    with pytest.raises(HashingBusyError):
        await stores[0].charge(of_device(KEYS, valid.nonce), others)


async def test_the_absent_and_the_deactivated_are_counted_alike(
    stores: list[AttemptStore], database: Connection, ann: UUID
) -> None:
    await database.execute("UPDATE users SET status = 'deactivated'")
    known = DeviceToken(ann, secrets.token_bytes(16), ann)

    for identifier in ("ann", "bob"):
        for _ in range(LIMITS.failures):
            charge, candidate = await stores[0].charge_login(identifier, known, ROOM)
            assert (charge.counter.kind, candidate) == ("identifier", None)
        with pytest.raises(TooManyAttemptsError):
            await stores[0].charge_login(identifier, known, ROOM)


async def test_clearing_an_account_ends_the_counters_of_both_identifiers_and_no_other(
    databases: list[Database], database: Connection, ann: UUID
) -> None:
    store = AttemptStore(databases[0], KEYS, LIMITS)
    for identifier in ("ann@example.com", "Ann", "bob"):
        await store.charge_login(identifier, None, ROOM)
    await store.charge(of_self(KEYS, ann), ROOM)
    user = public_user(await database.fetchrow("SELECT * FROM users"))

    async with databases[0].connection() as connection, connection.transaction():
        await store.clear(connection, user)

    left = await database.fetch("SELECT counter FROM credential_attempts")
    assert [row["counter"] for row in left] == [of_identifier(KEYS, "bob").digest]


async def test_the_relay_deletes_counters_that_mean_nothing_any_more(
    databases: list[Database], command_database: PostgresAddress, database: Connection
) -> None:
    store = AttemptStore(databases[0], KEYS, LIMITS)
    now = datetime.now(UTC)
    for hours in (3, 2, 1):  # that of an hour ago has expired, too
        await store.charge(of_self(KEYS, UUID(int=hours)), ROOM, now - timedelta(hours=hours))
    await store.charge(of_self(KEYS, UUID(int=0)), ROOM, now - timedelta(minutes=59))
    relay = await connect(as_role(command_database, RELAY), application="test")

    try:
        assert await purge_attempts(relay, batch=2) == 3
    finally:
        await disconnect(relay)

    assert await database.fetchval("SELECT count(*) FROM credential_attempts") == 1
