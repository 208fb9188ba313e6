"""Two public sets of hostile input, sent to every command: what is no JSON is 400, and nothing is a 5xx."""

import json
from typing import Any
from unicodedata import normalize

import httpx
import pytest

from tests.hostile.sets import documents, naughty_strings
from tests.integration.command_api.conftest import problem, registration

USER = "/users/01a203c9-2100-7681-90d7-176ca6de65cd"
ROUTES = [
    ("POST", "/users"),
    ("PUT", f"{USER}/email"),
    ("POST", f"{USER}/email/verify"),
    ("PUT", f"{USER}/username"),
    ("PUT", f"{USER}/password"),
    ("PATCH", f"{USER}/profile"),
    ("POST", f"{USER}/deactivate"),
    ("POST", f"{USER}/one-time-tokens"),
    ("POST", "/one-time-tokens/redeem"),
    ("POST", "/credentials/verify"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_what_is_no_json_is_said_to_be_none(api: httpx.AsyncClient, method: str, path: str) -> None:
    for name, body in documents().items():
        if not body:
            continue  # a deactivation needs no body
        answer = await api.request(method, path, content=body, headers={"Content-Type": "application/json"})

        assert answer.status_code < 500, name
        if name.startswith("n_"):
            problem(answer, 400, "malformed-request")


async def test_a_line_that_is_no_json_fails_alone(api: httpx.AsyncClient) -> None:
    # An import reads lines, so what has a line's end in it is two.
    lines = {name: body for name, body in documents().items() if body.strip() and b"\n" not in body}
    answer = await api.post(
        "/users/import", content=b"\n".join(lines.values()), headers={"Content-Type": "application/x-ndjson"}
    )

    *results, summary = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.status_code == 200
    assert summary == {"complete": True, "created": 0, "unchanged": 0, "failed": len(lines)}
    said = dict(zip(lines, (result["problem"]["status"] for result in results), strict=True))
    assert {name: status for name, status in said.items() if name.startswith("n_") and status != 400} == {}


@pytest.mark.parametrize("field", ["email", "username", "password", "display_name"])
async def test_a_naughty_string_is_taken_as_it_is_or_refused_with_its_field(api: httpx.AsyncClient, field: str) -> None:
    for number, string in enumerate(naughty_strings()):
        answer = await api.post("/users", json=registration(f"naughty{number}", **{field: string}))

        if answer.status_code == 201 and field != "password":
            assert answer.json()[field] == (normalize("NFC", string) if field == "username" else string)
        elif answer.status_code != 201:
            assert answer.status_code in {409, 422}, string
            assert answer.json()["errors"][0]["pointer"] == f"#/{field}"


async def test_a_naughty_string_is_a_token_that_does_not_hold(api: httpx.AsyncClient) -> None:
    for string in naughty_strings():
        answer = await api.post("/one-time-tokens/redeem", json={"token": string, "password": string})
        problem(answer, 400, "invalid-one-time-token")


async def test_a_naughty_reason_is_taken_as_it_is(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    for string in naughty_strings():
        for action, body in (("deactivate", {"reason": string}), ("reactivate", None)):
            answer = await api.post(f"/users/{ann['id']}/{action}", json=body)
            assert answer.status_code == 200, string


@pytest.mark.parametrize("field", ["email", "username", "password"])
async def test_a_naughty_change_is_taken_as_it_is_or_refused_with_its_field(
    api: httpx.AsyncClient, ann: dict[str, Any], field: str
) -> None:
    taken = 0
    for string in naughty_strings():
        value = f"{string}@example.com" if field == "email" else string
        answer = await api.put(f"/users/{ann['id']}/{field}", json={field: value})

        if answer.status_code in {200, 204}:
            taken += 1
            assert field == "password" or answer.json()[field] == normalize("NFC", value)
        else:
            assert answer.status_code == 422, (string, answer.text)
            assert answer.json()["errors"][0]["pointer"] == f"#/{field}"

    assert taken > 20


async def test_a_naughty_profile_is_taken_as_it_is(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    for string in naughty_strings():
        profile = {"display_name": string[:200], "attributes": {"list": [string, {string: string}]}}
        answer = await api.patch(f"/users/{ann['id']}/profile", json=profile)
        assert answer.status_code == 200, string
        assert {name: answer.json()[name] for name in profile} == profile


async def test_naughty_credentials_let_nobody_in(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    for string in naughty_strings():
        guesses = ({"identifier": string, "password": string}, {"identifier": "ann", "password": string})
        for guess in (*guesses, {**guesses[0], "device_token": string}):
            answer = await api.post("/credentials/verify", json=guess)
            assert answer.status_code in {403, 422, 429}, (string, answer.text)
