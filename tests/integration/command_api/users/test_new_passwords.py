"""A new password is judged wherever one is sent, before anything is hashed, and the answer says why it is refused."""

import json
from collections.abc import AsyncIterator, MutableMapping
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from chassis.settings import PostgresAddress
from command_api.app import create_app
from command_api.passwords.blocklist_build import build
from tests.integration.command_api.conftest import (
    Connection,
    make_settings,
    problem,
    register,
    registration,
    serving,
)

NDJSON = {"Content-Type": "application/x-ndjson"}
ANN = {"email": "ann.example@example.com", "username": "ann_example", "display_name": "Ann Stra\u00dfe"}
#: Each refused password of Ann's, and what the answer says of it.
REASONS = {
    "fourteen chars": "at least 15 characters, whichever; this has 14",
    "123456789Qwerty": "list of common or leaked passwords",
    "Only On Our List": "list of common or leaked passwords",
    "Ann.Example@Example.COM": "own e-mail address;",
    "ANN.EXAMPLE@example.com": "own e-mail address;",
}
#: Shorter than 15 is whatever she is called otherwise; these are for a policy of 8.
NAMES = {
    "ann.EXAMPLE": "own e-mail address up to the @;",
    "Ann_Example": "own username;",
    "ANN STRASSE": "own display name;",
    "PassWord1": "list of common or leaked passwords",
}


@pytest.fixture
async def strict(command_database: PostgresAddress, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A command API that asks for 15 characters and has a larger list."""
    file = tmp_path / "list"
    build(BytesIO(b"only on our list"), file)
    app = create_app(make_settings(command_database, PASSWORD_MIN_LENGTH=15, PASSWORD_BLOCKLIST_FILE=file))
    async with serving(app) as client:
        yield client


def refused(answer: httpx.Response, password: str, why: str) -> None:
    document = problem(answer, 422, "validation-error")
    [wrong] = document["errors"]
    assert wrong["pointer"] == "#/password"
    assert why in wrong["detail"]
    assert why in document["detail"]
    assert password not in answer.text


@pytest.mark.parametrize("accept", ["application/json", "application/json, */*"], ids=["fast path", "framework"])
async def test_a_registration_is_told_why_and_nothing_is_stored(
    strict: httpx.AsyncClient, database: Connection, logs: list[MutableMapping[str, Any]], accept: str
) -> None:
    for password, why in REASONS.items():
        answer = await strict.post("/users", json={**ANN, "password": password}, headers={"Accept": accept})
        refused(answer, password, why)
        assert password not in str(logs)

    assert await database.fetchval("SELECT count(*) FROM users") == 0


async def test_a_change_is_held_against_the_users_own_names_before_any_password_is_checked(
    api: httpx.AsyncClient,
) -> None:
    ann = await register(api, "ann", **ANN)

    for password, why in NAMES.items():
        body = {"password": password, "current_password": "not even hers"}
        refused(await api.put(f"/users/{ann['id']}/password", json=body), password, why)
    kept = await api.put(
        f"/users/{ann['id']}/password", json={"password": "another password", "current_password": "ann's password"}
    )

    assert kept.status_code == 204


async def test_the_current_password_is_not_judged(api: httpx.AsyncClient) -> None:
    ann = await register(api, "ann", **ANN)

    wrong = await api.put(
        f"/users/{ann['id']}/password", json={"password": "another password", "current_password": "password"}
    )

    problem(wrong, 403, "wrong-password")


async def test_a_line_of_an_import_is_refused_alone_and_a_hash_is_taken_as_it_is(api: httpx.AsyncClient) -> None:
    bcrypt = "$2b$05$k0khz5SDfuoO8y72Ta/CPObfH0hCwWO/grJbeEgGpOs4N/UtPiJzq"
    lines = [{**ANN, "password": password} for password in NAMES]
    body = [*lines, {**ANN, "password_hash": bcrypt}, registration("bob")]

    answer = await api.post("/users/import", content="\n".join(map(json.dumps, body)), headers=NDJSON)

    results = [json.loads(line) for line in answer.text.splitlines()]
    for result, (password, why) in zip(results, NAMES.items(), strict=False):
        assert result["problem"]["type"] == "/problems/validation-error"
        [wrong] = result["problem"]["errors"]
        assert wrong["pointer"] == "#/password"
        assert why in wrong["detail"]
        assert password not in json.dumps(result)
    assert results[-1] == {"complete": True, "created": 2, "unchanged": 0, "failed": len(NAMES)}


async def test_the_document_and_the_problems_page_say_the_rules(strict: httpx.AsyncClient) -> None:
    document = (await strict.get("/openapi.json")).json()
    page = (await strict.get("/problems/validation-error")).text

    of_a_registration = document["components"]["schemas"]["RegisterUser"]["properties"]["password"]
    assert of_a_registration["minLength"] == 15
    for text in (of_a_registration["description"], page):
        assert "A new password has at least 8 characters" in text
        assert "list of common or leaked passwords" in text
    assert (await strict.get("/problems/")).text.count("/problems/validation-error") == 1
