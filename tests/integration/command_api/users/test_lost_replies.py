"""The reply to a commit is lost: the rows tell what became of it, and where they cannot, the client is told so."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from chassis.clock import utc_now
from chassis.identifiers import new_id
from chassis.postgres.database import Database, DatabaseUnavailableError, connect, disconnect
from chassis.postgres.pool import Pool
from chassis.settings import PostgresAddress
from command_api.app import create_app
from command_api.users import decisions
from command_api.users.commands import RegisterUser
from command_api.users.state import Unregistered
from command_api.users.store import PendingChange, UserStore
from events.envelope import Envelope
from events.user_events import USER_EVENTS
from tests.integration.command_api.conftest import (
    Connection,
    make_settings,
    problem,
    register,
    registration,
    serving,
)
from tests.integration.command_api.lossy_proxy import LossyProxy
from tests.servers.private_servers import private_postgres
from tests.waiting import until

WARM = "warm"
#: How long a statement may go unanswered here; the driver's own wait for a cancelled one is as long again.
SILENCE_SECONDS = 1.0


@pytest.fixture
async def proxy(command_database: PostgresAddress) -> AsyncIterator[LossyProxy]:
    async with LossyProxy(command_database).listening() as listening:
        yield listening


@pytest.fixture
async def api(proxy: LossyProxy) -> AsyncIterator[httpx.AsyncClient]:
    """The API behind the proxy, with one connection on which every statement has been prepared."""
    settings = make_settings(
        proxy.address, COMMAND_POSTGRES_POOL_SIZE=1, COMMAND_POSTGRES_MAX_OVERFLOW=0, OUTBOX_NOTIFY=False
    )
    async with serving(create_app(settings)) as client:
        user = await register(client, WARM)
        await client.patch(f"/users/{user['id']}/profile", json={"display_name": "Warmer"})
        await client.delete(f"/users/{user['id']}")
        yield client


async def test_a_registration_whose_reply_is_lost_is_answered_as_done(
    api: httpx.AsyncClient, proxy: LossyProxy, database: Connection, logs: list[Any]
) -> None:
    proxy.lose_reply(1)

    answer = await api.post("/users", json=registration("ann"))

    assert proxy.lost.is_set()
    assert answer.status_code == 201
    assert await database.fetchval("SELECT id FROM users") == UUID(answer.json()["id"])
    assert [entry["committed"] for entry in logs if entry["event"] == "command.reply_lost"] == [True]


async def test_a_registration_that_never_reached_the_server_is_answered_as_not_done(
    api: httpx.AsyncClient, proxy: LossyProxy, database: Connection
) -> None:
    proxy.lose_request(1)

    answer = await api.post("/users", json=registration("ann"))

    problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert await database.fetchval("SELECT count(*) FROM users") == 0


@pytest.mark.parametrize("published", [False, True])
async def test_a_change_whose_reply_is_lost_is_answered_as_done(
    api: httpx.AsyncClient, proxy: LossyProxy, database: Connection, published: bool
) -> None:
    ann = await register(api, "ann")
    if published:
        # As a relay that is quicker than the settlement.
        await database.execute("""
            CREATE FUNCTION publish() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
                $$ BEGIN DELETE FROM outbox WHERE id = NEW.id; RETURN NULL; END $$;
            CREATE TRIGGER at_once AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION publish();
        """)
    proxy.lose_reply(2)

    answer = await api.patch(f"/users/{ann['id']}/profile", json={"display_name": "New"})

    assert proxy.lost.is_set()
    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    assert await database.fetchval("SELECT display_name FROM users") == "New"


async def test_a_change_that_never_reached_the_server_is_answered_as_not_done(
    api: httpx.AsyncClient, proxy: LossyProxy, database: Connection
) -> None:
    ann = await register(api, "ann")
    proxy.lose_request(2)

    answer = await api.patch(f"/users/{ann['id']}/profile", json={"display_name": "New"})

    problem(answer, 503, "unavailable")
    assert await database.fetchval("SELECT display_name FROM users") is None


@pytest.mark.parametrize("lost", ["reply", "request"])
async def test_an_erasure_whose_commit_is_lost_is_settled(
    api: httpx.AsyncClient, proxy: LossyProxy, database: Connection, lost: str
) -> None:
    ann = await register(api, "ann")
    # Load, begin, delete, forget answers, forget what is held back, append, commit.
    (proxy.lose_reply if lost == "reply" else proxy.lose_request)(7)

    answer = await api.delete(f"/users/{ann['id']}")

    assert proxy.lost.is_set()
    assert answer.status_code == (204 if lost == "reply" else 503)
    assert await database.fetchval("SELECT count(*) FROM users") == (0 if lost == "reply" else 1)


@pytest.mark.parametrize("lost", ["reply", "request"])
async def test_a_reset_by_token_whose_commit_is_lost_is_settled(
    api: httpx.AsyncClient, proxy: LossyProxy, lost: str
) -> None:
    ann = await register(api, "ann")

    async def reset(after: Callable[[], None]) -> list[httpx.Response]:
        issued = await api.post(f"/users/{ann['id']}/one-time-tokens", json={"purpose": "password-reset"})
        after()
        body = {"token": issued.json()["token"], "password": "an unlisted new password"}
        return [await api.post("/one-time-tokens/redeem", json=body) for _ in range(2)]

    await reset(lambda: None)  # so that every statement is prepared
    # Find, begin, change, end the token, end the counters, commit.
    first, retry = await reset(lambda: (proxy.lose_reply if lost == "reply" else proxy.lose_request)(6))

    assert proxy.lost.is_set()
    assert (first.status_code, retry.status_code) == ((200, 400) if lost == "reply" else (503, 200))


async def test_a_commit_that_is_still_on_its_way_is_waited_for(
    api: httpx.AsyncClient, proxy: LossyProxy, database: Connection
) -> None:
    """The backend waits for a lock and does not know that its client has gone; it commits as soon as it can."""
    ann = await register(api, "ann")
    transaction = database.transaction()
    await transaction.start()
    await database.execute("SELECT FROM users FOR UPDATE")
    proxy.lose_reply(2)

    answer = asyncio.create_task(api.patch(f"/users/{ann['id']}/profile", json={"display_name": "New"}))
    await proxy.lost.wait()
    still_open = asyncio.create_task(answer_within(answer, 0.3))
    assert await still_open is False, "nothing can be said while the backend may still commit"
    await transaction.commit()

    assert (await answer).status_code == 200
    assert await database.fetchval("SELECT display_name FROM users") == "New"


async def answer_within(answer: "asyncio.Task[httpx.Response]", seconds: float) -> bool:
    done, _ = await asyncio.wait([answer], timeout=seconds)
    return bool(done)


async def test_traces_covered_by_later_changes_are_an_unknown_outcome(
    api: httpx.AsyncClient, proxy: LossyProxy, database: Connection
) -> None:
    ann = await register(api, "ann")
    proxy.lose_reply(2)
    proxy.refusing = True
    answer = asyncio.create_task(api.patch(f"/users/{ann['id']}/profile", json={"display_name": "New"}))
    await proxy.lost.wait()

    await _until_version(database, 2)
    await database.execute("UPDATE users SET version = 3, event_id = gen_random_uuid()")
    await database.execute("DELETE FROM outbox")
    proxy.refusing = False

    problem(await answer, 503, "outcome-unknown")


async def test_a_database_that_stays_away_is_an_unknown_outcome(api: httpx.AsyncClient, proxy: LossyProxy) -> None:
    proxy.lose_reply(1)
    proxy.refusing = True

    answer = await api.post("/users", json=registration("ann"))

    problem(answer, 503, "outcome-unknown")
    assert answer.headers["retry-after"] == "1"


async def test_a_retry_with_the_same_key_learns_an_unknown_outcome(api: httpx.AsyncClient, proxy: LossyProxy) -> None:
    headers = {"Idempotency-Key": "k"}
    await api.post("/users", json=registration("bob"), headers={"Idempotency-Key": "warm"})
    proxy.lose_reply(2)
    proxy.refusing = True
    unknown = await api.post("/users", json=registration("ann"), headers=headers)
    proxy.refusing = False

    retried = await api.post("/users", json=registration("ann"), headers=headers)

    problem(unknown, 503, "outcome-unknown")
    assert (retried.status_code, retried.headers["idempotent-replayed"]) == (201, "true")


@pytest.mark.parametrize("forward", [True, False])
async def test_after_a_silence_the_next_command_has_another_connection(
    proxy: LossyProxy, logs: list[Any], forward: bool
) -> None:
    """A network that drops packets: the driver would wait for its own cancellation on the connection used last."""

    async def open_impatient() -> Connection:
        return await asyncpg.connect(**proxy.address.connect_arguments, command_timeout=SILENCE_SECONDS)

    pool = Pool(open_impatient, disconnect, most=2, keep=2)
    store = UserStore(Database(proxy.address, pool))
    try:
        await pool.fill()
        assert await store.commit(_registration(WARM), None)
        proxy.go_silent(1, forward=forward)
        if forward:
            assert await store.commit(_registration("ann"), None)
        else:
            with pytest.raises(DatabaseUnavailableError, match="not committed"):
                await store.commit(_registration("ann"), None)
        assert pool.lent == 0
        async with asyncio.timeout(SILENCE_SECONDS):
            assert await store.commit(_registration("bob"), None)
    finally:
        await pool.close()

    assert len([entry for entry in logs if entry["event"] == "command.reply_lost"]) == 1


def _registration(name: str) -> PendingChange:
    event = decisions.register(Unregistered(new_id()), RegisterUser(**registration(name)), utc_now())
    envelope = Envelope(
        event_id=new_id(),
        source=USER_EVENTS.source,
        type=USER_EVENTS.event_type(event),
        subject_id=event.user.id,
        version=1,
        time=event.user.updated_at,
        correlation_id="test",
        causation_id="test",
        traceparent=None,
    )
    return PendingChange(event=event, envelope=envelope, value=USER_EVENTS.encode(event), password_hash="hash")


@pytest.mark.parametrize("kind", [DatabaseUnavailableError, TimeoutError])
async def test_a_connection_whose_failure_was_given_another_name_is_not_lent_again(
    command_database: PostgresAddress, kind: type[Exception]
) -> None:
    async with Database.open(command_database, application="test") as opened:
        with pytest.raises(KindlyNamedError):
            async with opened.connection() as before:
                raise KindlyNamedError from kind()
        async with opened.connection() as after:
            assert after is not before
        with pytest.raises(KindlyNamedError):
            async with opened.connection():
                raise KindlyNamedError from ValueError()
        async with opened.connection() as again:
            assert again is after


class KindlyNamedError(Exception):
    pass


async def _until_version(database: Connection, version: int) -> None:
    async def reached() -> bool:
        return bool(await database.fetchval("SELECT version FROM users") == version)

    await until(reached, within=5, what="the change is committed")


async def test_pg_xact_status_can_speak_of_somebody_elses_transaction_after_a_crash() -> None:
    """Why it is not asked: the id of a transaction that a crash ended is handed out again."""
    # By default what has no commit yet may reach the disk five times a second, and then its id is not given again.
    async with private_postgres(settings={"wal_writer_delay": "10s"}) as (server, address):
        ours = await connect(address, application="test")
        await ours.execute("BEGIN")
        await ours.execute("CREATE TABLE never_committed ()")
        xid = await ours.fetchval("SELECT pg_current_xact_id()::text")
        await server.kill()
        await server.start()
        others = await connect(address, application="test")
        try:
            for number in range(20):
                await others.execute(f"CREATE TABLE others_{number} ()")
            status = await others.fetchval("SELECT pg_xact_status($1::text::xid8)", xid)
            exists = await others.fetchval("SELECT to_regclass('never_committed') IS NOT NULL")
        finally:
            await disconnect(others)
            ours.terminate()

    assert (status, exists) == ("committed", False)
