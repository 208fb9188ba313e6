"""POST /users: what is stored, what is appended, what is answered, and in which order."""

import asyncio
import json
import traceback
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from chassis.access.guard import Access
from chassis.consistency import ConsistencyToken
from chassis.identifiers import new_id_text
from chassis.settings import PostgresAddress
from command_api.app import create_app
from command_api.users.commands import RegisterUser
from command_api.users.context import Cause, CommandContext
from command_api.users.store import UnexpectedViolationError
from tests.envelopes import envelope_of
from tests.integration.command_api.conftest import (
    Connection,
    make_settings,
    problem,
    register,
    registration,
    serving,
)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_answers_the_new_user_and_where_to_read_it(api: httpx.AsyncClient) -> None:
    answer = await api.post("/users", json=registration("ann", display_name="Ann", attributes={"plan": "pro"}))

    assert answer.status_code == 201
    user = answer.json()
    assert UUID(user["id"]).version == 7
    assert {**user, "id": "", "created_at": "", "updated_at": ""} == {
        "id": "",
        "email": "ann@example.com",
        "username": "ann",
        "email_verified": False,
        "display_name": "Ann",
        "attributes": {"plan": "pro"},
        "is_active": True,
        "status": "active",
        "version": 1,
        "created_at": "",
        "updated_at": "",
    }
    assert answer.headers["location"] == f"http://query.example.com/users/{user['id']}"
    assert answer.headers["etag"] == '"1"'
    assert ConsistencyToken.decode(answer.headers["consistency-token"]) == ConsistencyToken(UUID(user["id"]), 1)


async def test_appends_the_event_with_the_request_as_its_cause(api: httpx.AsyncClient, database: Connection) -> None:
    headers = {"X-Request-Id": "checkout-4711", "traceparent": TRACE}
    user = (await api.post("/users", json=registration("ann"), headers=headers)).json()

    event = await database.fetchrow("SELECT * FROM outbox")

    assert event is not None
    envelope = envelope_of(event["headers"])
    assert envelope.type == "muster.user.registered.v1"
    assert (str(event["subject_id"]), envelope.version) == (user["id"], 1)
    assert (envelope.event_id, envelope.subject_id) == (event["event_id"], event["subject_id"])
    assert envelope.correlation_id == "checkout-4711"
    assert UUID(envelope.causation_id).version == 7
    assert envelope.traceparent == TRACE
    assert json.loads(event["value"]) == {"user": user, "previous": {}}


async def test_the_context_of_a_trace_that_is_not_recorded_travels_on_as_it_came(
    command_database: PostgresAddress, database: Connection
) -> None:
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_SAMPLER": "always_off"}
    async with serving(create_app(make_settings(command_database, **told))) as api:
        await api.post("/users", json=registration("ann"), headers={"traceparent": TRACE})

    assert envelope_of(await database.fetchval("SELECT headers FROM outbox")).traceparent == TRACE


@pytest.mark.parametrize(
    "header", ["nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", TRACE + "-more", TRACE.upper()]
)
async def test_an_invalid_traceparent_does_not_travel_on(
    api: httpx.AsyncClient, database: Connection, header: str
) -> None:
    await api.post("/users", json=registration("ann"), headers={"traceparent": header})

    assert envelope_of(await database.fetchval("SELECT headers FROM outbox")).traceparent is None


async def test_keeps_the_password_as_argon2id_and_nowhere_else(api: httpx.AsyncClient, database: Connection) -> None:
    user = await register(api, "ann")

    assert "password" not in json.dumps(user)
    row = await database.fetchrow("SELECT password_hash, users::text AS all FROM users")
    assert row is not None
    assert row["password_hash"].startswith("$argon2id$")
    assert "ann's password" not in row["all"]
    assert b"password" not in await database.fetchval("SELECT value FROM outbox")


@pytest.mark.parametrize(
    ("other", "slug", "pointer"),
    [
        ({"username": "bob"}, "email-taken", "#/email"),
        ({"username": "bob", "email": "ANN@EXAMPLE.COM"}, "email-taken", "#/email"),
        ({"email": "bob@example.com"}, "username-taken", "#/username"),
        ({"email": "bob@example.com", "username": "ANN"}, "username-taken", "#/username"),
        ({"email": "bob@example.com", "username": "\uff41nn"}, "username-taken", "#/username"),
    ],
)
async def test_refuses_what_another_user_has_in_whatever_case(
    api: httpx.AsyncClient, database: Connection, other: dict[str, str], slug: str, pointer: str
) -> None:
    await register(api, "ann")

    answer = await api.post("/users", json={**registration("ann"), **other})

    assert problem(answer, 409, slug)["errors"][0]["pointer"] == pointer
    assert await database.fetchval("SELECT count(*) FROM users") == 1
    assert await database.fetchval("SELECT count(*) FROM outbox") == 1


async def test_a_commit_that_fails_is_not_answered_with_success(api: httpx.AsyncClient, database: Connection) -> None:
    """A deferred trigger fails during COMMIT: an answer that left before it would be a lie."""
    await database.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not at commit'; END $$;
        CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION refuse();
    """)

    answer = await api.post("/users", json=registration("ann"))

    document = problem(answer, 500, "internal-error")
    assert "not at commit" not in answer.text, "nothing internal leaks"
    assert document["instance"] == "/users"
    assert await database.fetchval("SELECT count(*) FROM users") == 0
    assert await database.fetchval("SELECT count(*) FROM outbox") == 0


async def test_a_whole_registration_is_one_statement(api: httpx.AsyncClient, app: Any) -> None:
    """One round trip: asyncpg logs every query of the one connection that is used."""
    await register(api, "ann")  # the connection is there and the statement prepared
    queries: list[str] = []
    async with app.state.resources.database.connection() as connection:
        connection.add_query_logger(lambda record: queries.append(record.query))

    await register(api, "bob")

    # The driver tells of a query in the loop's next turn.
    await asyncio.sleep(0)
    assert len(queries) == 1
    assert queries[0].startswith("WITH u AS")


async def test_a_violation_that_nobody_expects_takes_no_row_along(app: FastAPI, database: Connection) -> None:
    """PostgreSQL's text shows the failing row, the hash included; it must not reach the logs."""
    await database.execute("ALTER TABLE users ADD CONSTRAINT surprise CHECK (username <> 'ann')")
    context = CommandContext(cause=Cause(command_id=new_id_text(), correlation_id="test"), access=Access(None))

    async with app.router.lifespan_context(app):
        with pytest.raises(UnexpectedViolationError) as error:
            await app.state.resources.handlers.register(RegisterUser(**registration("ann")), context)

    shown = "".join(traceback.format_exception(error.value))
    assert "surprise" in shown
    assert "ann@example.com" not in shown
    assert "argon2id" not in shown
