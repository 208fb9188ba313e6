"""A dry run says what an import would do, in the same words, and does nothing of it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from chassis.identifiers import new_id
from command_api.imports.handlers import ImportHandlers, ImportSummary
from command_api.users.context import Cause
from tests.integration.command_api.conftest import Connection, problem, register, registration
from tests.integration.command_api.imports.sent_lines import HEADERS, body_of, line, send

COUNTS = ("users", "outbox", "erased_users", "idempotency_records")


async def foresee(api: httpx.AsyncClient, *lines: dict[str, Any] | bytes) -> list[dict[str, Any]]:
    answer = await api.post("/users/import?dry_run=true", content=body_of(lines), headers=HEADERS)
    assert answer.status_code == 200, answer.text
    return [json.loads(item) for item in answer.content.splitlines()]


async def counts(database: Connection) -> dict[str, int]:
    return {table: await database.fetchval(f"SELECT count(*) FROM {table}") for table in COUNTS}


async def test_what_is_foreseen_is_what_then_happens(api: httpx.AsyncClient, database: Connection) -> None:
    there, erased, brought = (str(new_id()) for _ in range(3))
    await send(api, line("there", id=there), line("gone", id=erased))
    await api.delete(f"/users/{erased}")
    lines: list[dict[str, Any] | bytes] = [
        line("ann"),
        line("bob", id=brought, status="deactivated", created_at=None),
        line("there", id=there),
        line("gone", id=erased),
        line("ANN", username="anna"),
        line("eve", username="Ann"),
        line("There"),
        b"{",
        line("x"),
        {"email": "sam@example.com", "username": "sam", "password": "correct horse battery staple"},
        {"email": "kim@example.com", "username": "kim", "password": "PassWord1"},
        {"email": "liv@example.com", "username": "liv", "password": "LIV@example.com"},
        # Beyond the first batch of the import.
        *(line(f"user{number}") for number in range(1000)),
        line("late", username="ann"),
        line("user7", username="other"),
        line("other", id=brought),
    ]
    before = await counts(database)

    foreseen = await foresee(api, *lines)
    after = await counts(database)
    happened = await send(api, *lines)

    assert after == before
    assert foreseen[-1] == {**happened[-1], "dry_run": True}
    assert happened[-1] == {"complete": True, "created": 1003, "unchanged": 2, "failed": 10}
    for told, result in zip(foreseen[:-1], happened[:-1], strict=True):
        made = "id" in result and result["id"] not in {there, brought}
        assert told == ({name: value for name, value in result.items() if name != "id"} if made else result)


class Idle:
    """Stands where passwords are hashed and the relay is told, neither of which may happen."""

    async def hash_all(self, given: Sequence[object]) -> list[str]:
        assert not given, "passwords were hashed"
        return []

    def notify(self) -> None:
        raise AssertionError("the relay was told")


@pytest.mark.usefixtures("api")
async def test_nothing_is_hashed_and_the_relay_is_not_told(app: FastAPI) -> None:
    idle: Any = Idle()
    imports: ImportHandlers = replace(app.state.resources.imports, passwords=idle, notifier=idle)
    cause = Cause(command_id="test", correlation_id="test")

    told = [part async for part in imports.run(body_of([registration("ann"), line("bob")]), cause, dry_run=True)]

    assert told[-1] == ImportSummary(created=2, dry_run=True)


async def test_it_waits_for_nobody_and_keeps_nobody_waiting(api: httpx.AsyncClient, database: Connection) -> None:
    async with database.transaction():
        # What an import would have to wait for.
        await database.execute("LOCK TABLE users, outbox IN SHARE MODE")
        [told, _] = await foresee(api, line("ann"))

    assert told == {"line": 1, "status": "created"}


@pytest.mark.parametrize(
    "query", ["dry_run=yes", "dry_run=", "dry_run=True", "dry_run=true&dry_run=true", "dryrun=true"]
)
async def test_what_does_not_clearly_say_so_is_refused(
    api: httpx.AsyncClient, database: Connection, query: str
) -> None:
    answer = await api.post(f"/users/import?{query}", content=body_of([line("ann")]), headers=HEADERS)

    problem(answer, 422, "validation-error")
    assert await database.fetchval("SELECT count(*) FROM users") == 0


async def test_false_is_no_dry_run(api: httpx.AsyncClient, database: Connection) -> None:
    await register(api, "ann")

    answer = await api.post("/users/import?dry_run=false", content=body_of([line("bob")]), headers=HEADERS)

    assert "dry_run" not in json.loads(answer.content.splitlines()[-1])
    assert await database.fetchval("SELECT count(*) FROM users") == 2
