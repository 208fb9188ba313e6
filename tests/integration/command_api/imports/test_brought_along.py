"""What an imported user brings from elsewhere: since when, verified, deactivated. One event says it all."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from chassis.clock import milliseconds, rfc3339, utc_now
from chassis.identifiers import new_id, time_in, with_time
from tests.envelopes import envelope_of
from tests.integration.command_api.conftest import Connection
from tests.integration.command_api.imports.sent_lines import line, send

CREATED_AT = datetime(2019, 3, 4, 5, 6, 7, 89012, tzinfo=UTC)
BROUGHT = {
    "created_at": "2019-03-04T06:06:07.089012345+01:00",
    "email_verified": True,
    "status": "deactivated",
    "deactivated_reason": "left",
}


async def test_one_event_says_what_was_brought_and_happens_now(api: httpx.AsyncClient, database: Connection) -> None:
    before = utc_now()
    [result, _] = await send(api, line("ann", **BROUGHT))

    [event] = await database.fetch("SELECT * FROM outbox")
    envelope, value = envelope_of(event["headers"]), json.loads(event["value"])
    user = value["user"]
    assert (envelope.type, envelope.version, value["reason"]) == ("muster.user.registered.v1", 1, "left")
    assert before <= envelope.time <= utc_now()
    assert (user["created_at"], user["updated_at"]) == (rfc3339(CREATED_AT), rfc3339(envelope.time))
    assert (user["email_verified"], user["status"], user["is_active"], user["version"]) == (
        True, "deactivated", False, 1,
    )  # fmt: skip
    assert time_in(UUID(result["id"])) == milliseconds(CREATED_AT)


async def test_who_came_deactivated_and_verified_is_so_to_commands(api: httpx.AsyncClient) -> None:
    [result, _] = await send(api, line("ann", **BROUGHT))
    url = f"/users/{result['id']}"

    refused = await api.put(f"{url}/username", json={"username": "anna"})
    back = await api.post(f"{url}/reactivate")
    verified = await api.post(f"{url}/email/verify", json={"email": "ann@example.com"})

    assert (refused.status_code, back.status_code, verified.status_code) == (409, 200, 200)
    assert verified.headers["etag"] == '"2"', "it was verified already"
    assert verified.json()["created_at"] == rfc3339(CREATED_AT)


async def test_without_any_of_it_a_user_is_new_active_and_not_verified(
    api: httpx.AsyncClient, database: Connection
) -> None:
    await send(api, line("ann", created_at=None, deactivated_reason=None))

    value = json.loads(await database.fetchval("SELECT value FROM outbox"))
    user = value["user"]
    assert (user["created_at"], user["status"], user["email_verified"]) == (user["updated_at"], "active", False)
    assert "reason" not in value


async def test_an_id_and_created_at_name_the_same_millisecond(api: httpx.AsyncClient) -> None:
    same, other = (with_time(new_id(), milliseconds(CREATED_AT) + later) for later in (0, 1))
    created_at = rfc3339(CREATED_AT)

    results = await send(
        api,
        line("ann", id=str(same), created_at=created_at),
        line("bob", id=str(other), created_at=created_at),
        line("eve", id=str(other)),
    )

    assert [result["status"] for result in results[:-1]] == ["created", "failed", "created"]
    assert results[0]["id"] == str(same)
    [wrong] = results[1]["problem"]["errors"]
    assert (results[1]["problem"]["status"], wrong["pointer"]) == (422, "#/id")


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"created_at": "1969-12-31T23:59:59.999999Z"}, "#/created_at"),
        ({"created_at": "2999-01-01T00:00:00Z"}, "#/created_at"),
        ({"created_at": "2019-03-04T05:06:07"}, "#/created_at"),
        ({"created_at": "2019-02-29T05:06:07Z"}, "#/created_at"),
        ({"created_at": 1551675967}, "#/created_at"),
        ({"email_verified": "true"}, "#/email_verified"),
        ({"email_verified": None}, "#/email_verified"),
        ({"status": "erased"}, "#/status"),
        ({"deactivated_reason": "left"}, "#/deactivated_reason"),
        ({"deactivated_reason": "left", "status": "active"}, "#/deactivated_reason"),
        ({"deactivated_reason": "x" * 501, "status": "deactivated"}, "#/deactivated_reason"),
    ],
)
async def test_what_cannot_be_is_refused_and_named(api: httpx.AsyncClient, more: dict[str, Any], pointer: str) -> None:
    results = await send(api, line("ann", **more), line("bob", created_at="1970-01-01T00:00:00Z"))

    assert [result["status"] for result in results[:-1]] == ["failed", "created"]
    assert results[0]["problem"]["type"] == "/problems/validation-error"
    assert [error["pointer"] for error in results[0]["problem"]["errors"]] == [pointer]


async def test_a_registration_brings_none_of_it(api: httpx.AsyncClient) -> None:
    body = {"email": "ann@example.com", "username": "ann", "password": "correct horse battery"}

    answer = await api.post("/users", json=body | BROUGHT)

    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.json()["errors"]} == {f"#/{name}" for name in BROUGHT}


async def test_who_comes_without_a_password_has_none_that_could_be_guessed(
    api: httpx.AsyncClient, database: Connection
) -> None:
    user = {"email": "ann@example.com", "username": "ann"}

    forgotten, told = (await send(api, user))[0], (await send(api, {**user, "password_hash": None}))[0]
    url = f"/users/{told['id']}/password"
    guessed = await api.put(url, json={"password": "a new long one", "current_password": "anything"})
    [row] = map(tuple, await database.fetch("SELECT password_hash, password_set_by FROM users"))
    given = await api.put(url, json={"password": "a new long one"})

    assert (forgotten["status"], told["status"]) == ("failed", "created")
    assert row == (None, None)
    assert (guessed.status_code, given.status_code) == (403, 204)
