"""The counters on a real PostgreSQL do what the model says, also for attempts at once from several processes."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.postgres.database import Database, connect, disconnect
from chassis.postgres.roles import COMMAND, RELAY
from chassis.settings import PostgresAddress
from command_api.credentials.attempt_store import AttemptStore, Charge
from command_api.credentials.attempts import AttemptLimits, Counter, TooManyAttemptsError, of_identifier, of_self
from command_api.credentials.device_tokens import DeviceToken
from command_api.credentials.keys import CredentialKeys
from command_api.credentials.purge import purge_attempts
from command_api.users.rows import public_user
from events.user_events import PublicUser
from tests.databases import as_role
from tests.integration.command_api.conftest import SECRET, Connection
from tests.unit.command_api.credentials.throttle_model import ModelCounter

KEYS = CredentialKeys.derive([SECRET])
LIMITS = AttemptLimits()
FEW = AttemptLimits(failures=3, window=timedelta(minutes=10))
BEGIN = datetime(2026, 11, 29, tzinfo=UTC)
#: What comes next, and after how many seconds: an attempt that fails, one that is not looked at, one that succeeds, and
#: before an attempt another name for the user.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fails", "fails", "fails", "busy", "late", "succeeds", "moves"]),
        st.sampled_from([0, 1, 59, 60, 150, 599, 601]),
    ),
    max_size=25,
)
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
        return await store.charge(counter, now)
    except TooManyAttemptsError:
        return None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_the_statement_does_what_the_model_says(databases: list[Database], steps: list[tuple[str, int]]) -> None:
    store, users = AttemptStore(databases[0], KEYS, FEW), [named(f"{uuid4()}") for _ in range(2)]
    models, has = [ModelCounter(FEW), ModelCounter(FEW)], 0
    now, waiting = BEGIN, list[Charge]()
    for number, (what, seconds) in enumerate(steps):
        now += timedelta(seconds=seconds, microseconds=1)
        if what == "moves":
            async with databases[0].connection() as connection, connection.transaction():
                await store.carry(connection, users[has], users[1 - has])
            models[1 - has].inherit(models[has])
            has = 1 - has
            waiting.clear()
        counter, model = of_identifier(KEYS, users[has].username), models[has]
        charge = await lets_in(store, counter, now)
        assert (charge is not None) == model.charge(now), f"step {number} of {steps}"
        if charge is None:
            continue
        if what == "late":
            waiting.append(charge)
        if what == "busy":
            for late in [charge, *waiting]:
                await store.take_back(late)
                model.take_back(late.at)
            waiting.clear()
        if what == "succeeds":
            await store.end(counter)
            model.end()


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
    first, second = [await stores[0].charge(of_self(KEYS, UUID(int=1))) for _ in range(2)]

    await stores[0].take_back(first)
    assert await database.fetchval("SELECT failed_at FROM credential_attempts") == [second.at]
    await stores[0].take_back(second)
    assert await database.fetchval("SELECT count(*) FROM credential_attempts") == 0


async def test_a_refusal_that_was_carried_over_stays_when_an_attempt_is_taken_back(
    databases: list[Database], stores: list[AttemptStore]
) -> None:
    store, before, after = stores[0], named("before"), named("after")
    for _ in range(LIMITS.failures):
        await store.charge(of_identifier(KEYS, before.username))
    under_way = await store.charge(of_identifier(KEYS, after.username))
    async with databases[0].connection() as connection, connection.transaction():
        await store.carry(connection, before, after)

    await store.take_back(under_way)

    assert await lets_in(store, of_identifier(KEYS, after.username)) is None


async def test_a_refusal_says_when_to_come_back_and_writes_nothing(
    stores: list[AttemptStore], database: Connection
) -> None:
    counter = of_self(KEYS, uuid4())
    for _ in range(LIMITS.failures):
        await stores[0].charge(counter, BEGIN)
    row = "SELECT xmin, cmin, c FROM credential_attempts c"
    before = await database.fetchrow(row)

    with pytest.raises(TooManyAttemptsError) as refused:
        await stores[1].charge(counter, BEGIN + timedelta(seconds=0.5))

    assert refused.value.seconds == 60
    assert await database.fetchrow(row) == before


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
        charge, candidate = await store.charge_login("Ann@example.com", ([None, *not_anns])[number % 3])
        assert charge.counter.kind == "identifier"
        assert candidate is not None
        assert (candidate.id, candidate.password_hash) == (ann, "a hash")

    with pytest.raises(TooManyAttemptsError):
        await store.charge_login("ann@example.com", not_anns[0])
    charge, _ = await store.charge_login("ANN@example.com", known)

    assert charge.counter.kind == "device"
    # The username is counted by itself.
    assert (await store.charge_login("ann", None))[0].counter.kind == "identifier"


async def test_the_absent_and_the_deactivated_are_counted_alike(
    stores: list[AttemptStore], database: Connection, ann: UUID
) -> None:
    await database.execute("UPDATE users SET status = 'deactivated'")
    known = DeviceToken(ann, secrets.token_bytes(16), ann)

    for identifier in ("ann", "bob"):
        for _ in range(LIMITS.failures):
            charge, candidate = await stores[0].charge_login(identifier, known)
            assert (charge.counter.kind, candidate) == ("identifier", None)
        with pytest.raises(TooManyAttemptsError):
            await stores[0].charge_login(identifier, known)


async def test_clearing_an_account_ends_the_counters_of_both_identifiers_and_no_other(
    databases: list[Database], database: Connection, ann: UUID
) -> None:
    store = AttemptStore(databases[0], KEYS, LIMITS)
    for identifier in ("ann@example.com", "Ann", "bob"):
        await store.charge_login(identifier, None)
    await store.charge(of_self(KEYS, ann))
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
        await store.charge(of_self(KEYS, UUID(int=hours)), now - timedelta(hours=hours))
    await store.charge(of_self(KEYS, UUID(int=0)), now - timedelta(minutes=59))
    relay = await connect(as_role(command_database, RELAY), application="test")

    try:
        assert await purge_attempts(relay, batch=2) == 3
    finally:
        await disconnect(relay)

    assert await database.fetchval("SELECT count(*) FROM credential_attempts") == 1
