"""The statement that charges a log-in, against a model: whatever happens in whichever order, from several processes.

Clock and counters are passed in. Guessers come without a device token, with one that has ended, and with somebody
else's; the owner comes from a known device, and from a new one.
"""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.postgres.database import Database
from chassis.postgres.roles import COMMAND
from chassis.settings import PostgresAddress
from command_api.credentials.attempts.rule import AttemptLimits, TooManyAttemptsError
from command_api.credentials.attempts.store import AttemptStore, Candidate, Charge
from command_api.credentials.device_tokens import DeviceToken
from command_api.credentials.keys import CredentialKeys
from command_api.passwords.hashing import Room
from command_api.users.rows import public_user
from events.user_events import PublicUser
from tests.databases import as_role
from tests.integration.command_api.conftest import SECRET
from tests.unit.command_api.credentials.throttle_model import ModelCounter

LIMITS = AttemptLimits(failures=3, window=timedelta(minutes=10), longest_refusal=timedelta(minutes=4), most=6)
BEGIN = datetime(2026, 11, 29, tzinfo=UTC)
ROOM = Room(known_devices=True, others=True)
PROCESSES = 3
INSERT = """
INSERT INTO users (id, version, event_id, status, email, email_key, email_verified, username, username_key, attributes,
    password_hash, password_set_by, created_at, updated_at)
VALUES ($1, 1, $1, 'active', $2 || '@example.com', $2 || '@example.com', false, $2, $2, '{}', 'a hash', $1, now(),
    now())
RETURNING *
"""
#: Who comes with which device token, what becomes of the attempt, by which identifier, in which process, and when.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["none", "none", "ended", "another's", "a second device", "the device"]),
        st.sampled_from(["fails", "fails", "fails", "succeeds", "succeeds", "busy", "late", "moves"]),
        st.sampled_from(["username", "email"]),
        st.integers(0, PROCESSES - 1),
        st.sampled_from([0, 0, 0, 0, 0, 1, 59, 60, 150, 240, 599, 601]),
    ),
    min_size=20,
    max_size=60,
)
#: Whose token is valid has a counter of its own; all others share that of the identifier.
KNOWN = {"the device", "a second device"}


@pytest.fixture
async def databases(command_database: PostgresAddress) -> AsyncIterator[list[Database]]:
    """Several processes' ways to the database."""
    async with AsyncExitStack() as stack:
        opened = [Database.open(as_role(command_database, COMMAND), application="test") for _ in range(PROCESSES)]
        yield [await stack.enter_async_context(each) for each in opened]


@dataclass
class Account:
    """A user on a database that others have used before, the model beside it, and what was let in."""

    stores: list[AttemptStore]
    user: PublicUser
    models: defaultdict[str, ModelCounter] = field(default_factory=lambda: defaultdict(lambda: ModelCounter(LIMITS)))
    guesses: defaultdict[str, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    waiting: list[tuple[ModelCounter, Charge]] = field(default_factory=list)
    moves: int = 0

    def __post_init__(self) -> None:
        whose = {"ended": (self.user.id, uuid4()), "another's": (uuid4(), self.user.id)}
        mine = (self.user.id, self.user.id)
        self.tokens = {
            who: DeviceToken(whose.get(who, mine)[0], uuid4().bytes, whose.get(who, mine)[1])
            for who in ("ended", "another's", *KNOWN)
        }

    async def attempt(
        self, who: str, name: str, process: int, now: datetime
    ) -> tuple[Charge, Candidate, ModelCounter] | None:
        """Charge one on both, which must agree."""
        model = self.models[who if who in KNOWN else name]
        identifier = getattr(self.user, name)
        let_in = model.charge(now)
        try:
            charge, candidate = await self.stores[process].charge_login(identifier, self.tokens.get(who), ROOM, now)
        except TooManyAttemptsError:
            assert not let_in, "it lets in"
            return None
        assert let_in, "it refuses"
        assert charge.counter.kind == ("device" if who in KNOWN else "identifier")
        assert candidate is not None
        refuses = None if model.refused_until is None else (model.refused_until - now).total_seconds()
        assert charge.then_refuses == refuses
        return charge, candidate, model

    async def end(self, what: str, who: str, name: str, attempt: tuple[Charge, Candidate, ModelCounter]) -> None:
        charge, candidate, model = attempt
        store = self.stores[0]
        match what:
            case "succeeds":
                assert await store.succeed(charge, candidate, None)
                model.succeed(charge.at)
            case "late":
                self.waiting.append((model, charge))
            case "busy":
                for late_model, late in [(model, charge), *self.waiting]:
                    await store.take_back(late)
                    late_model.take_back(late.at)
                self.waiting.clear()
            case _:
                if who not in KNOWN:
                    self.guesses[name].append(charge.at)

    async def move(self, databases: list[Database]) -> None:
        """Give the user another name."""
        self.moves += 1
        name = f"{self.user.id.hex[-20:]}m{self.moves}"
        after = self.user.model_copy(update={"username": name})
        async with databases[0].connection() as connection, connection.transaction():
            await connection.execute("UPDATE users SET username = $2, username_key = $2 WHERE id = $1", after.id, name)
            await self.stores[0].carry(connection, self.user, after)
        old, self.models["username"] = self.models["username"], ModelCounter(LIMITS)
        self.models["username"].inherit(old)
        self.waiting = [(model, charge) for model, charge in self.waiting if model is not old]
        self.user = after


async def account(databases: list[Database]) -> Account:
    user_id = uuid4()
    async with databases[0].connection() as connection:
        user = public_user(await connection.fetchrow(INSERT, user_id, user_id.hex))
    # Keys of its own: no counter of an earlier example is met.
    keys = CredentialKeys.derive([f"{SECRET}{user_id}"])
    return Account([AttemptStore(database, keys, LIMITS) for database in databases], user)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_no_sequence_locks_a_known_device_out_or_lets_more_guesses_through_than_the_most(
    databases: list[Database], steps: list[tuple[str, str, str, int, int]]
) -> None:
    ann, now = await account(databases), BEGIN
    for who, planned, name, process, seconds in steps:
        now += timedelta(seconds=seconds, microseconds=1)
        if planned == "moves":
            await ann.move(databases)
        # The owner has the password at the device.
        what = "succeeds" if who == "the device" else planned
        attempt = await ann.attempt(who, name, process, now)
        assert attempt or who != "the device", "the owner was locked out"
        if attempt:
            await ann.end(what, who, name, attempt)

    for let_in in ann.guesses.values():
        for first in let_in:
            within = [at for at in let_in if first <= at < first + LIMITS.window]
            assert len(within) <= LIMITS.most + LIMITS.window // LIMITS.longest_refusal


async def test_guessers_and_an_owner_without_a_device_token_meet_the_model_at_every_step(
    databases: list[Database],
) -> None:
    """As fast as may be, which random steps seldom are: the owner comes in between as often as guessers let them."""
    ann, now = await account(databases), BEGIN
    for number in range(60):
        now += timedelta(seconds=20, microseconds=1)
        succeeds = number % LIMITS.failures == LIMITS.failures - 1
        if attempt := await ann.attempt("none", "email", number % PROCESSES, now):
            await ann.end("succeeds" if succeeds else "fails", "none", "email", attempt)

    first = [at for at in ann.guesses["email"] if at < BEGIN + LIMITS.window]
    assert LIMITS.most <= len(first) <= LIMITS.most + LIMITS.window // LIMITS.longest_refusal
