"""POST /users/search: the list once more, its parameters in a body."""

from typing import Any

import httpx
import pytest

from tests.integration.query_api.read_side import ReadSide, person


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"limit": 2},
        {"limit": 3, "sort": "username", "status": "active"},
        {"email": "USER1@example.com"},
        {"username_prefix": "user", "skip": 1},
        {"created_after": "2026-11-01T12:00:02+00:00"},
    ],
)
async def test_a_body_is_answered_as_the_query_string_would_be(
    api: httpx.AsyncClient, read_side: ReadSide, body: dict[str, Any]
) -> None:
    await read_side.register(*(person(number) for number in range(5)))

    searched, listed = await api.post("/users/search", json=body), await api.get("/users", params=body)

    assert searched.status_code == listed.status_code == 200
    assert searched.json()["data"] == listed.json()["data"]
    assert searched.json()["has_more"] == listed.json()["has_more"]
    assert {*searched.headers} == {*listed.headers}


async def test_ids_are_a_list_and_cursors_lead_on_either_way(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    people = [person(number) for number in range(4)]
    await read_side.register(*people)
    wanted = {"id": [str(user.id) for user in people[:3]], "limit": 1}

    first = (await api.post("/users/search", json=wanted, headers={"Prefer": "count=exact"})).json()
    there = await api.post("/users/search", json={"limit": 2, "cursor": first["next_cursor"]})
    here = await api.get("/users", params={"limit": 2, "cursor": first["next_cursor"]})

    assert first["data"][0]["id"] == str(people[2].id)
    assert there.json() == here.json()
    assert [user["id"] for user in there.json()["data"]] == [str(people[1].id), str(people[0].id)]


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        (b'{"emial":"a@b.c"}', ["#/emial"]),
        (b'{"limit":"5","status":"gone","id":"x"}', ["#/limit", "#/status", "#/id"]),
        (b'{"limit":true}', ["#/limit"]),
        (b'{"limit":0,"skip":-1}', ["#/limit", "#/skip"]),
        (b'{"id":[]}', ["#/id"]),
        (b'{"email":null}', ["#/email"]),
        (b'{"username":"\\ud800"}', ["#/username"]),
        (b'{"limit":1,"limit":2}', ["#/limit"]),
        (b"[]", ["#"]),
    ],
)
async def test_each_wrong_member_is_named(api: httpx.AsyncClient, body: bytes, pointers: list[str]) -> None:
    answer = await api.post("/users/search", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == pointers


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"limit":NaN}', "application/json", 400),
        (b"[" * 50_000, "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b'{"email":"' + b"a" * 70_000 + b'"}', "application/json", 413),
    ],
)
async def test_what_cannot_be_read_is_told_apart(
    api: httpx.AsyncClient, content: bytes, media_type: str, status: int
) -> None:
    answer = await api.post("/users/search", content=content, headers={"content-type": media_type})

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_url_takes_no_parameters_and_the_path_no_other_method(api: httpx.AsyncClient) -> None:
    assert (await api.post("/users/search?email=a@b.c", json={})).status_code == 422
    other = await api.get("/users/search")
    assert (other.status_code, other.headers["allow"]) == (405, "POST")
