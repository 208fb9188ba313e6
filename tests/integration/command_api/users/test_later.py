"""What PostgreSQL says with "later" is answered with 503 and Retry-After, or not at all: whichever statement met it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import pytest

from chassis.identifiers import new_id
from chassis.settings import PostgresAddress
from command_api.app import create_app
from command_api.migrate import migrate
from tests.integration.command_api.conftest import Connection, make_settings, problem, register, registration, serving
from tests.servers.private_servers import private_postgres
from tests.servers.refusing_proxy import LATER, ROLLED_BACK, RefusingProxy

Command = Callable[[httpx.AsyncClient, dict[str, Any]], Awaitable[httpx.Response]]
#: More than any of them has.
STATEMENTS = 30
#: Promised: how long a command may take while PostgreSQL is frozen.
FROZEN_SECONDS = 5.0
TABLE_LOCK = "LOCK TABLE users IN ACCESS EXCLUSIVE MODE"


@dataclass(frozen=True)
class Case:
    """A command, and SQL that tells whether it was carried out for the user with id $1, or the one named $2."""

    send: Command
    done: str = ""


def key() -> dict[str, str]:
    return {"Idempotency-Key": str(new_id())}


async def patch(
    api: httpx.AsyncClient, ann: dict[str, Any], name: str | None, headers: dict[str, str]
) -> httpx.Response:
    return await api.patch(
        f"/users/{ann['id']}/profile",
        content=json.dumps({"display_name": name}),
        headers={"Content-Type": "application/merge-patch+json", **headers},
    )


def lines(*bodies: dict[str, Any]) -> bytes:
    return "\n".join(map(json.dumps, bodies)).encode()


async def import_with(api: httpx.AsyncClient, ann: dict[str, Any], *more: dict[str, Any]) -> httpx.Response:
    body = lines(registration(f"{ann['username']}-new"), *more)
    return await api.post("/users/import", content=body, headers={"Content-Type": "application/x-ndjson"})


REGISTERED = "SELECT EXISTS (SELECT FROM users WHERE username = $2 || '-new' AND $1::uuid IS NOT NULL)"
CHANGED = "SELECT version = 2 FROM users WHERE id = $1 AND $2::text IS NOT NULL"
ERASED = "SELECT NOT EXISTS (SELECT FROM users WHERE id = $1 AND $2::text IS NOT NULL)"

CASES = {
    "registration": Case(lambda api, ann: api.post("/users", json=registration(f"{ann['username']}-new")), REGISTERED),
    "registration with a key": Case(
        lambda api, ann: api.post("/users", json=registration(f"{ann['username']}-new"), headers=key()), REGISTERED
    ),
    "change": Case(lambda api, ann: patch(api, ann, "Ann", {}), CHANGED),
    "change with a key": Case(lambda api, ann: patch(api, ann, "Ann", key()), CHANGED),
    "change of nothing": Case(lambda api, ann: patch(api, ann, None, key())),
    "erasure": Case(lambda api, ann: api.delete(f"/users/{ann['id']}", headers=key()), ERASED),
    "import": Case(import_with, REGISTERED),
    "import beside somebody": Case(lambda api, ann: import_with(api, ann, registration("first")), REGISTERED),
}
#: Those that are about one user.
SINGLE = [case for name, case in CASES.items() if not name.startswith("import")]


@pytest.fixture
async def proxy(command_database: PostgresAddress) -> AsyncIterator[RefusingProxy]:
    async with RefusingProxy(command_database).listening() as listening:
        yield listening


@pytest.fixture
async def api(proxy: RefusingProxy) -> AsyncIterator[httpx.AsyncClient]:
    """The API behind the proxy, with one connection."""
    one = {"COMMAND_POSTGRES_POOL_SIZE": 1, "COMMAND_POSTGRES_MAX_OVERFLOW": 0, "OUTBOX_NOTIFY": False}
    async with serving(create_app(make_settings(proxy.address, **one))) as client:
        await register(client, "first")
        yield client


@pytest.mark.parametrize("name", CASES)
async def test_whatever_means_later_at_whichever_statement_is_retried_or_answered_503(
    api: httpx.AsyncClient, proxy: RefusingProxy, database: Connection, name: str
) -> None:
    case, refused = CASES[name], 0
    for state in LATER:
        for statement in range(1, STATEMENTS):
            ann = await register(api, f"ann-{state}-{statement}")
            proxy.refuse(statement, state)
            answer = await case.send(api, ann)
            if not proxy.has_refused:
                break
            refused += 1
            where = f"{state} at statement {statement} of {name}"
            if answer.status_code >= 300:
                assert state not in ROLLED_BACK, where
                problem(answer, 503, "unavailable")
                assert answer.headers["retry-after"] == "1", where
            if case.done:
                done = await database.fetchval(case.done, ann["id"], ann["username"])
                assert done == (answer.status_code < 300), where
        else:
            raise AssertionError(f"{name} has no end")
    assert refused >= len(LATER)


async def test_a_database_that_serialises_by_default_makes_no_command_fail(
    command_database: PostgresAddress, database: Connection
) -> None:
    await database.execute(
        f"ALTER DATABASE \"{command_database.database}\" SET default_transaction_isolation = 'repeatable read'"
    )
    async with serving(create_app(make_settings(command_database))) as api:
        ann = await register(api, "ann")
        answers = await asyncio.gather(*(patch(api, ann, f"Ann {number}", {}) for number in range(12)))

    assert [answer.status_code for answer in answers] == [200] * 12


async def test_a_table_that_stays_locked_is_503_to_every_command(
    command_database: PostgresAddress, database: Connection
) -> None:
    async with serving(create_app(make_settings(command_database))) as api:
        ann = await register(api, "ann")
        async with database.transaction():
            await database.execute(TABLE_LOCK)
            began = time.monotonic()
            answers = await asyncio.gather(*(case.send(api, ann) for case in SINGLE))
            took = time.monotonic() - began
        for answer in answers:
            problem(answer, 503, "unavailable")
            assert answer.headers["retry-after"] == "1"
        assert took < FROZEN_SECONDS

        async with database.transaction():
            await database.execute(TABLE_LOCK)
            waiting = asyncio.ensure_future(CASES["change"].send(api, ann))
            # Less than a lock may take: others ALTER tables in a moment, and nobody shall notice.
            assert not (await asyncio.wait([waiting], timeout=1.2))[0]
        assert (await waiting).status_code == 200


async def test_commands_in_flight_are_answered_within_five_seconds_while_the_server_is_frozen() -> None:
    async with private_postgres(migrate) as (server, address), serving(create_app(make_settings(address))) as api:
        frozen = asyncio.Event()
        sending = [
            asyncio.create_task(first_refusal(api, case, f"{number}-{copy}", frozen))
            for copy in range(2)
            for number, case in enumerate(SINGLE)
        ]
        await asyncio.wait(sending, timeout=1)
        server.pause()
        frozen.set()
        began = time.monotonic()
        try:
            answers = await asyncio.gather(*sending)
            took = time.monotonic() - began
        finally:
            server.resume()
    for answer in answers:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert took < FROZEN_SECONDS


async def first_refusal(api: httpx.AsyncClient, case: Case, name: str, frozen: asyncio.Event) -> httpx.Response:
    """Send a command for one new user after the other, until the server is frozen; a busy machine may refuse before."""
    for number in count():
        answer = await api.post("/users", json=registration(f"{name}-{number}"))
        if answer.status_code < 300:
            answer = await case.send(api, answer.json())
        if answer.status_code >= 300 and frozen.is_set():
            return answer
    raise AssertionError("endless")
