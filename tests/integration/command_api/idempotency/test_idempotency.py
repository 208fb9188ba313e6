"""Idempotency-Key: one execution, one answer, however often and wherever it is asked."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI

from chassis.settings import PostgresAddress
from command_api.app import create_app
from command_api.idempotency import replay as idempotency
from command_api.idempotency.purge import purge
from command_api.problems import KEYS_USED_UP
from command_api.settings import CommandApiSettings
from tests.integration.command_api.conftest import (
    Connection,
    make_settings,
    problem,
    registration,
    serving,
    until_somebody_waits,
)
from tests.issuing import bearer, operator

KEY = {"Idempotency-Key": "8e03978e-40d5-43e8-bc93-6894a57f9324"}
SHOWN = ("etag", "location", "consistency-token", "content-type")


async def test_a_retry_gets_the_first_answer_byte_for_byte(api: httpx.AsyncClient, database: Connection) -> None:
    first = await api.post("/users", json=registration("ann"), headers=KEY)
    await api.put(f"/users/{first.json()['id']}/username", json={"username": "changed"})

    again = await api.post("/users", json=registration("ann"), headers=KEY)

    assert (again.status_code, again.content) == (201, first.content)
    assert [again.headers[name] for name in SHOWN] == [first.headers[name] for name in SHOWN]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert await database.fetchval("SELECT count(*) FROM outbox") == 2


async def test_neither_key_nor_request_can_be_read_from_the_table(api: httpx.AsyncClient, database: Connection) -> None:
    await api.post("/users", json=registration("ann"), headers={"Idempotency-Key": "ann's own key"})

    row = await database.fetchrow("SELECT digest, fingerprint FROM idempotency_records")

    assert row is not None
    assert len(row["digest"]) == len(row["fingerprint"]) == 32
    assert b"ann" not in row["digest"] + row["fingerprint"]


@pytest.mark.parametrize(
    "change",
    [
        ("PUT", "email", {"email": "new@example.com"}),
        ("PUT", "password", {"password": "another password"}),
        ("PATCH", "profile", {"display_name": "X"}),
        ("POST", "deactivate", None),
        ("PUT", "username", {"username": "ann"}),
    ],
    ids=lambda change: change[1],
)
async def test_every_command_replays_even_one_that_changed_nothing(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any], change: tuple[str, str, Any]
) -> None:
    method, path, body = change
    first = await api.request(method, f"/users/{ann['id']}/{path}", json=body, headers=KEY)
    events = await database.fetchval("SELECT count(*) FROM outbox")

    # The id written in another form is the same path.
    again = await api.request(method, f"/users/{ann['id'].upper()}/{path}", json=body, headers=KEY)

    assert first.is_success
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert await database.fetchval("SELECT count(*) FROM outbox") == events


async def test_a_replay_comes_before_any_if_match(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    url = f"/users/{ann['id']}/username"
    headers = {**KEY, "If-Match": '"1"'}
    first = await api.put(url, json={"username": "new"}, headers=headers)

    again = await api.put(url, json={"username": "new"}, headers=headers)

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.headers["etag"] == '"2"'


@pytest.mark.parametrize("other", [{"username": "bob"}, {"password": "ann's other password"}, {"attributes": {}}])
async def test_a_key_stands_for_one_request(api: httpx.AsyncClient, other: dict[str, Any]) -> None:
    await api.post("/users", json=registration("ann"), headers=KEY)

    problem(await api.post("/users", json={**registration("ann"), **other}, headers=KEY), 422, "idempotency-key-reused")


async def test_another_if_match_is_another_request(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    url = f"/users/{ann['id']}/username"
    await api.put(url, json={"username": "new"}, headers=KEY)

    answer = await api.put(url, json={"username": "new"}, headers={**KEY, "If-Match": '"2"'})

    problem(answer, 422, "idempotency-key-reused")


async def test_order_and_spaces_of_json_make_no_other_request(api: httpx.AsyncClient) -> None:
    headers = {**KEY, "Content-Type": "application/json"}
    one = b'{"email":"ann@example.com","username":"ann","password":"ann\'s password"}'
    two = b'{ "password": "ann\'s password", "username": "\\u0061nn", "email": "ann@example.com" }'

    first = await api.post("/users", content=one, headers=headers)
    again = await api.post("/users", content=two, headers=headers)

    assert (first.status_code, again.content) == (201, first.content)


async def test_a_body_nested_beyond_reason_breaks_no_erasure(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": "deep", "Content-Type": "application/json"}

    answer = await api.request("DELETE", f"/users/{ann['id']}", content=b"[" * 30_000, headers=headers)

    assert answer.status_code == 204


async def test_the_same_key_for_another_user_is_another_key(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    bob = (await api.post("/users", json=registration("bob"))).json()
    for user in (ann, bob):
        answer = await api.post(f"/users/{user['id']}/deactivate", headers=KEY)
        assert answer.json()["id"] == user["id"]
        assert "idempotent-replayed" not in answer.headers


async def test_a_refusal_is_not_stored(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    refused = await api.post("/users", json=registration("ann"), headers=KEY)
    await api.delete(f"/users/{ann['id']}")

    later = await api.post("/users", json=registration("ann"), headers=KEY)

    assert (refused.status_code, later.status_code) == (409, 201)


@pytest.mark.parametrize("key", ["", '""', "x" * 256])
async def test_a_key_that_is_empty_or_too_long_is_malformed(
    api: httpx.AsyncClient, database: Connection, key: str
) -> None:
    answer = await api.post("/users", json=registration("ann"), headers={"Idempotency-Key": key})

    assert problem(answer, 400, "malformed-request")["errors"][0]["header"] == "Idempotency-Key"
    assert await database.fetchval("SELECT count(*) FROM users") == 0


async def test_many_keys_with_many_concurrent_retries_run_once_each(
    settings: CommandApiSettings, database: Connection
) -> None:
    """Two processes' worth of apps on one database, each retry in either: 300 keys, 20 requests each."""
    keys, at_once = 300, 10
    apps = create_app(settings), create_app(settings)
    async with serving(apps[0]), serving(apps[1]):

        async def retry(number: int, attempt: int) -> Answer:
            key, body = f"key-{number}", json.dumps(registration(f"user{number}")).encode()
            answer = await post(apps[attempt % 2], key, body)
            while answer.status in {409, 503} and b"retry-after" in answer.headers:
                answer = await post(apps[attempt % 2], key, body)
            return answer

        for first in range(0, keys, at_once):
            answers = await asyncio.gather(
                *(retry(number, attempt) for attempt in range(20) for number in range(first, first + at_once))
            )
            assert {answer.status for answer in answers} == {201}
            assert len({answer.content for answer in answers}) == at_once

    for table in ("users", "outbox", "idempotency_records"):
        assert await database.fetchval(f"SELECT count(*) FROM {table}") == keys


class Answer(NamedTuple):
    """What an app sent."""

    status: int
    headers: dict[bytes, bytes]
    content: bytes


async def post(app: FastAPI, key: str, body: bytes) -> Answer:
    """Register as a server would ask for it: six thousand times httpx costs as much as what is tested."""
    sent: list[MutableMapping[str, Any]] = []
    received = iter([{"type": "http.request", "body": body}])

    async def receive() -> MutableMapping[str, Any]:
        return next(received, {"type": "http.disconnect"})

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = [(b"host", b"command"), (b"content-type", b"application/json"), (b"idempotency-key", key.encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/users",
        "raw_path": b"/users",
        "root_path": "",
        "query_string": b"",
        "headers": [*headers, (b"authorization", operator()), (b"content-length", str(len(body)).encode())],
        "client": ("127.0.0.1", 1),
        "server": ("command", 80),
    }
    await app(scope, receive, send)
    start, *parts = sent
    return Answer(start["status"], dict(start["headers"]), b"".join(part.get("body", b"") for part in parts))


async def test_concurrent_retries_of_a_change_run_once(
    settings: CommandApiSettings, database: Connection, ann: dict[str, Any]
) -> None:
    async with serving(create_app(settings)) as one, serving(create_app(settings)) as two:
        url = f"/users/{ann['id']}/password"
        body = {"password": "another password"}
        answers = await asyncio.gather(*(api.put(url, json=body, headers=KEY) for api in (one, two) * 10))

    assert {answer.status_code for answer in answers} == {204}
    assert {answer.headers["etag"] for answer in answers} == {'"2"'}
    assert await database.fetchval("SELECT count(*) FROM outbox") == 2


async def test_a_duplicate_that_waits_for_the_first_in_vain_is_told_to_come_back(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.1)

    async def rename() -> httpx.Response:
        return await api.put(f"/users/{ann['id']}/username", json={"username": "new"}, headers=KEY)

    async with database.transaction():
        await database.execute("SELECT FROM users FOR UPDATE")
        first = asyncio.create_task(rename())
        await until_somebody_waits(database)
        duplicate = await rename()

    problem(duplicate, 409, "idempotency-key-in-use")
    assert duplicate.headers["retry-after"] == "1"
    assert (await first).status_code == 200
    later = await rename()
    assert (later.content, later.headers["idempotent-replayed"]) == ((await first).content, "true")


async def test_answers_that_changed_nothing_share_a_body_and_are_replayed_byte_for_byte(
    api: httpx.AsyncClient, database: Connection
) -> None:
    ann = (await api.post("/users", json=registration("ann", attributes={"bio": "x" * 10_000}))).json()
    url = f"/users/{ann['id']}"
    firsts = [await rename(api, url, "ann", number) for number in range(20)]
    await api.put(f"{url}/username", json={"username": "changed"})
    back = await api.put(f"{url}/username", json={"username": "ann"})
    later = await rename(api, url, "ann", 20)

    again = [await rename(api, url, "ann", number) for number in range(21)]

    for one, two in zip([*firsts, later], again, strict=True):
        assert (two.status_code, two.content) == (200, one.content)
        assert [two.headers[name] for name in ("etag", "consistency-token")] == [
            one.headers[name] for name in ("etag", "consistency-token")
        ]
        assert two.headers["idempotent-replayed"] == "true"
    assert firsts[0].json() == ann
    assert later.content == back.content
    stored = "SELECT count(*), count(body), count(DISTINCT body_digest) FROM idempotency_records"
    assert tuple(await database.fetchrow(stored) or ()) == (21, 0, 2)
    assert await database.fetchval("SELECT count(*) FROM idempotency_bodies") == 2


async def test_who_uses_a_body_waits_for_nobody_else_who_does(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    url = f"/users/{ann['id']}"
    await rename(api, url, "ann", 0)
    async with database.transaction():
        await database.execute("SELECT FROM idempotency_bodies FOR UPDATE")

        assert (await rename(api, url, "ann", 1)).status_code == 200


async def rename(
    api: httpx.AsyncClient, url: str, username: str, key: int, headers: dict[str, str] | None = None
) -> httpx.Response:
    sent = {"Idempotency-Key": f"key {key}", **(headers or {})}
    return await api.put(f"{url}/username", json={"username": username}, headers=sent)


async def test_a_caller_has_so_many_keys_of_commands_that_change_nothing(
    command_database: PostgresAddress, database: Connection
) -> None:
    app = create_app(make_settings(command_database, IDEMPOTENCY_UNCHANGED_PER_DAY="3"))
    async with serving(app) as api:
        ann = (await api.post("/users", json=registration("ann"))).json()
        url = f"/users/{ann['id']}"
        own = bearer(ann["id"], ["self"])
        kept = [await rename(api, url, "ann", number, own) for number in range(3)]

        refused = await rename(api, url, "ann", 3, own)
        without = await api.put(f"{url}/username", json={"username": "ann"}, headers=own)
        replayed = await rename(api, url, "ann", 0, own)
        others = await rename(api, url, "ann", 3)
        changed = await rename(api, url, "another", 4)

    assert [answer.status_code for answer in (*kept, without, replayed, others, changed)] == [200] * 7
    said = problem(refused, 429, "idempotency-keys-used-up")
    assert "without an Idempotency-Key" in KEYS_USED_UP.remedy
    assert "there is nothing to change" in said["detail"]
    assert 0 < int(refused.headers["retry-after"]) <= 24 * 3600 / 3
    assert await database.fetchval("SELECT count(*) FROM idempotency_records") == 5


async def test_a_caller_has_so_many_keys_of_commands_that_change_something(
    command_database: PostgresAddress, database: Connection
) -> None:
    limits = {"IDEMPOTENCY_UNCHANGED_PER_DAY": "1", "IDEMPOTENCY_CHANGED_PER_DAY": "2"}
    async with serving(create_app(make_settings(command_database, **limits))) as api:

        async def register(name: str) -> httpx.Response:
            return await api.post("/users", json=registration(name), headers={"Idempotency-Key": name})

        ann = await register("ann")
        url = f"/users/{ann.json()['id']}"
        changed = await rename(api, url, "another", 0)

        refused = [await register("ben"), await rename(api, url, "third", 1)]
        replayed = [await register("ann"), await rename(api, url, "another", 0)]
        without = await api.put(f"{url}/username", json={"username": "third"})
        erased = await api.delete(url, headers={"Idempotency-Key": "last"})

    assert [answer.status_code for answer in (ann, changed, without, erased)] == [201, 200, 200, 204]
    for answer in refused:
        said = problem(answer, 429, "idempotency-keys-used-up")
        assert "this command would change something" in said["detail"]
        assert 0 < int(answer.headers["retry-after"]) <= 24 * 3600 / 2
    assert [answer.headers["idempotent-replayed"] for answer in replayed] == ["true", "true"]
    assert await database.fetchval("SELECT count(*) FROM idempotency_records") == 3


async def test_a_users_own_token_has_the_smaller_number_for_all_it_sends(command_database: PostgresAddress) -> None:
    app = create_app(make_settings(command_database, IDEMPOTENCY_UNCHANGED_PER_DAY="2"))
    async with serving(app) as api:
        ann = (await api.post("/users", json=registration("ann"))).json()
        url, own = f"/users/{ann['id']}", bearer(ann["id"], ["self"])
        kept = [await rename(api, url, name, number, own) for number, name in enumerate(["second", "second"])]

        refused = await rename(api, url, "third", 2, own)
        others = await rename(api, url, "third", 3)
        erased = await api.delete(url, headers={**own, "Idempotency-Key": "last"})

    assert [answer.status_code for answer in (*kept, others, erased)] == [200, 200, 200, 204]
    problem(refused, 429, "idempotency-keys-used-up")


async def test_bodies_are_purged_two_hours_after_their_last_record(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    url, old = f"/users/{ann['id']}", "UPDATE {} SET {} = now() - interval '{}'"
    await rename(api, url, "ann", 0)

    async def purged(hours: str) -> tuple[int, int]:
        await database.execute(old.format("idempotency_bodies", "used_at", hours))
        count = await purge(database)
        return count, await database.fetchval("SELECT count(*) FROM idempotency_bodies")

    await database.execute(old.format("idempotency_records", "created_at", "24 hours 1 minute"))
    assert await purged("25 hours 59 minutes") == (1, 1)
    await rename(api, url, "ann", 1)  # uses the body again, so it is younger now
    assert await purge(database) == 0
    assert (await rename(api, url, "ann", 1)).json() == ann
    assert await purged("26 hours") == (0, 0)


async def test_a_record_that_lost_its_body_is_no_answer_and_its_command_is_counted_once(
    command_database: PostgresAddress, database: Connection
) -> None:
    app = create_app(make_settings(command_database, IDEMPOTENCY_UNCHANGED_PER_DAY="2"))
    async with serving(app) as api:
        ann = (await api.post("/users", json=registration("ann"))).json()
        await rename(api, f"/users/{ann['id']}", "ann", 0)
        await database.execute("DELETE FROM idempotency_bodies")

        answer = await rename(api, f"/users/{ann['id']}", "ann", 0)

    # The record keeps the key until it is purged; of its many attempts one was counted.
    problem(answer, 409, "conflict")


async def test_old_answers_are_purged_batch_by_batch(api: httpx.AsyncClient, database: Connection) -> None:
    for number in range(5):
        answer = await api.post("/users", json=registration(f"u{number:02}"), headers={"Idempotency-Key": f"{number}"})
        assert answer.status_code == 201
    await database.execute(
        "UPDATE idempotency_records SET created_at = now() - interval '25 hours' WHERE subject_id IN"
        " (SELECT id FROM users WHERE username < 'u03')"
    )

    assert await purge(database, 2) == 3
    assert await purge(database) == 0
    assert await database.fetchval("SELECT count(*) FROM idempotency_records") == 2
