"""Every change: the answer, the row, the event, and the version a client may ask for."""

import asyncio
import json
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx
import pytest
from argon2 import PasswordHasher

from chassis.consistency import ConsistencyToken
from tests.envelopes import envelope_of
from tests.integration.command_api.conftest import Connection, problem, register, until_somebody_waits

#: Of a password that nobody has sent.
HASH = PasswordHasher(memory_cost=8, time_cost=1, parallelism=1).hash("meanwhile")


class Change(NamedTuple):
    """A change of Ann, and the event it leads to."""

    method: str
    path: str
    body: dict[str, Any] | None
    event: str

    async def send(self, api: httpx.AsyncClient, user_id: str, **headers: str) -> httpx.Response:
        url = f"/users/{user_id}/{self.path}".rstrip("/")
        return await api.request(self.method, url, json=self.body, headers=headers)


CHANGES = [
    Change("PUT", "email", {"email": "new@example.com"}, "email_changed"),
    Change("POST", "email/verify", {"email": "ann@example.com"}, "email_verified"),
    Change("PUT", "username", {"username": "new"}, "username_changed"),
    Change("PUT", "password", {"password": "another password"}, "password_changed"),
    Change("PATCH", "profile", {"display_name": "New", "attributes": {"a": 1}}, "profile_changed"),
    Change("POST", "deactivate", {"reason": "left"}, "deactivated"),
]
ERASURE = Change("DELETE", "", None, "erased")


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.event)
async def test_a_change_is_answered_stored_and_appended(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any], change: Change
) -> None:
    answer = await change.send(api, ann["id"])

    row = await database.fetchrow("SELECT * FROM users")
    appended = await database.fetchrow("SELECT * FROM outbox ORDER BY id DESC LIMIT 1")
    assert row is not None
    assert appended is not None
    published = json.loads(appended["value"])
    silent = change.event == "password_changed"
    assert answer.status_code == (204 if silent else 200)
    assert answer.headers["etag"] == '"2"'
    assert ConsistencyToken.decode(answer.headers["consistency-token"]) == ConsistencyToken(UUID(ann["id"]), 2)
    assert answer.content == b"" if silent else answer.json() == published["user"]
    assert envelope_of(appended["headers"]).type == f"muster.user.{change.event}.v1"
    assert (row["version"], row["event_id"]) == (2, appended["event_id"])
    assert published.get("reason") == (change.body or {}).get("reason")
    assert {name: row[name] for name in ("email", "username", "display_name", "status", "email_verified")} == {
        name: published["user"][name] for name in ("email", "username", "display_name", "status", "email_verified")
    }
    assert json.loads(row["attributes"]) == published["user"]["attributes"]


async def test_a_deactivated_user_can_be_reactivated_with_an_empty_body(
    api: httpx.AsyncClient, ann: dict[str, Any]
) -> None:
    await api.post(f"/users/{ann['id']}/deactivate")

    answer = await api.post(f"/users/{ann['id']}/reactivate")

    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["is_active"], answer.json()["version"]) == ("active", True, 3)


async def test_a_deactivated_user_refuses_a_change(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    await api.post(f"/users/{ann['id']}/deactivate")

    problem(await api.put(f"/users/{ann['id']}/username", json={"username": "new"}), 409, "user-deactivated")


async def test_what_is_so_already_succeeds_and_publishes_nothing(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    answer = await api.put(f"/users/{ann['id']}/email", json={"email": "ann@EXAMPLE.com"})

    assert (answer.status_code, answer.json(), answer.headers["etag"]) == (200, ann, '"1"')
    assert await database.fetchval("SELECT count(*) FROM outbox") == 1


async def test_another_address_can_be_taken_once_it_is_free(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    bob = await register(api, "bob")
    url = f"/users/{bob['id']}/email"

    taken = await api.put(url, json={"email": "ANN@example.com"})
    await api.put(f"/users/{ann['id']}/email", json={"email": "elsewhere@example.com"})
    free = await api.put(url, json={"email": "ANN@example.com"})

    problem(taken, 409, "email-taken")
    assert free.status_code == 200
    problem(await api.put(f"/users/{bob['id']}/username", json={"username": "Ann"}), 409, "username-taken")


async def test_only_the_current_address_can_be_verified(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    answer = await api.post(f"/users/{ann['id']}/email/verify", json={"email": "old@example.com"})

    assert problem(answer, 409, "email-not-current")["errors"][0]["pointer"] == "#/email"


@pytest.mark.parametrize("change", [*CHANGES, ERASURE], ids=lambda change: change.event)
async def test_nobody_cannot_be_changed(api: httpx.AsyncClient, change: Change) -> None:
    problem(await change.send(api, str(uuid4())), 404, "user-not-found")


async def test_a_patch_takes_both_media_types_and_says_which(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    url = f"/users/{ann['id']}/profile"
    patch = {"content": b'{"display_name":"X"}', "headers": {"Content-Type": "application/merge-patch+json"}}

    assert (await api.patch(url, **patch)).json()["display_name"] == "X"  # type: ignore[arg-type]
    refused = await api.patch(url, content=b"{}", headers={"Content-Type": "text/plain"})
    problem(refused, 415, "unsupported-media-type")
    assert refused.headers["accept-patch"] == "application/merge-patch+json, application/json"


async def test_attributes_too_large_after_the_merge_are_refused(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    url = f"/users/{ann['id']}/profile"
    await api.patch(url, json={"attributes": {"a": "x" * 10_000}})

    answer = await api.patch(url, json={"attributes": {"b": "x" * 10_000}})

    assert problem(answer, 422, "validation-error")["errors"][0]["pointer"] == "#/attributes"


@pytest.mark.parametrize("number", ["1e300", "1.0", "12345678901234567890123", "0.1", "1e-7", "-0.0"])
async def test_numbers_in_attributes_stay_what_they_are(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any], number: str
) -> None:
    url = f"/users/{ann['id']}/profile"
    headers = {"Content-Type": "application/json"}
    await api.patch(url, content=f'{{"attributes":{{"n":{number}}}}}'.encode(), headers=headers)

    again = await api.patch(url, json={"display_name": "X"})

    kept = again.json()["attributes"]["n"]
    published = json.loads(await database.fetchval("SELECT value FROM outbox ORDER BY id DESC LIMIT 1"))
    assert repr(kept) == repr(json.loads(number))
    assert repr(published["user"]["attributes"]["n"]) == repr(json.loads(number))


async def test_the_password_is_checked_where_the_current_one_is_given(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    url = f"/users/{ann['id']}/password"

    wrong = await api.put(url, json={"password": "another one", "current_password": "not ann's password"})
    right = await api.put(url, json={"password": "another one", "current_password": "ann's password"})
    old = await api.put(url, json={"password": "a third one", "current_password": "ann's password"})
    reset = await api.put(url, json={"password": "a fourth one"})

    assert problem(wrong, 403, "wrong-password")["errors"][0]["pointer"] == "#/current_password"
    assert [right.status_code, old.status_code, reset.status_code] == [204, 403, 204]
    assert reset.headers["etag"] == '"3"'
    value = json.loads(await database.fetchval("SELECT value FROM outbox ORDER BY id DESC LIMIT 1"))
    assert value["previous"] == {}
    assert "argon2" not in json.dumps(value)


async def test_a_password_that_changes_after_it_was_checked_is_checked_again(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    url = f"/users/{ann['id']}/password"
    body = {"password": "another password", "current_password": "ann's password"}
    async with database.transaction():
        await database.execute("SELECT FROM users FOR UPDATE")
        change = asyncio.create_task(api.put(url, json=body))
        await until_somebody_waits(database)
        await database.execute(
            "UPDATE users SET version = 2, (event_id, password_set_by) = (SELECT i, i FROM gen_random_uuid() i),"
            " password_hash = $1",
            HASH,
        )

    problem(await change, 403, "wrong-password")
    assert await database.fetchval("SELECT password_hash FROM users") == HASH


async def test_a_password_is_the_same_in_whatever_normal_form(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    url = f"/users/{ann['id']}/password"
    await api.put(url, json={"password": "cafe\u0301 au lait"})

    answer = await api.put(url, json={"password": "next password", "current_password": "caf\u00e9 au lait"})

    assert answer.status_code == 204


@pytest.mark.parametrize("tag", ['"1"', '"1.3"', "*", '"9", "1"', 'W/"9", "1"'])
async def test_if_match_with_the_current_version_lets_through(
    api: httpx.AsyncClient, ann: dict[str, Any], tag: str
) -> None:
    answer = await api.put(f"/users/{ann['id']}/username", json={"username": "new"}, headers={"If-Match": tag})

    assert answer.status_code == 200


@pytest.mark.parametrize("change", [*CHANGES, ERASURE], ids=lambda change: change.event)
async def test_a_stale_if_match_is_answered_with_the_current_version(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any], change: Change
) -> None:
    await api.put(f"/users/{ann['id']}/username", json={"username": "between"})

    answer = await change.send(api, ann["id"], **{"If-Match": '"1"'})

    problem(answer, 412, "stale-version")
    assert answer.headers["etag"] == '"2"'
    assert await database.fetchval("SELECT max(version) FROM users") == 2


async def test_a_weak_tag_never_matches(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    answer = await api.put(f"/users/{ann['id']}/username", json={"username": "new"}, headers={"If-Match": 'W/"1"'})

    problem(answer, 412, "stale-version")


async def test_an_unreadable_if_match_is_malformed(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    answer = await api.put(f"/users/{ann['id']}/username", json={"username": "new"}, headers={"If-Match": "1"})

    assert problem(answer, 400, "malformed-request")["errors"][0]["header"] == "If-Match"


async def test_twenty_clients_change_one_user_without_losing_a_change(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    async def add(number: int) -> httpx.Response:
        return await api.patch(f"/users/{ann['id']}/profile", json={"attributes": {f"k{number}": number}})

    answers = await asyncio.gather(*(add(number) for number in range(20)))

    assert [answer.status_code for answer in answers] == [200] * 20
    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 22))
    final = json.loads(await database.fetchval("SELECT attributes FROM users"))
    assert final == {f"k{number}": number for number in range(20)}
    appended = await database.fetch("SELECT headers FROM outbox ORDER BY id")
    assert [envelope_of(row["headers"]).version for row in appended] == list(range(1, 22)), "ids are in version order"


async def test_of_twenty_clients_with_the_same_if_match_one_wins(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    async def add(number: int) -> httpx.Response:
        url = f"/users/{ann['id']}/profile"
        return await api.patch(url, json={"attributes": {f"k{number}": number}}, headers={"If-Match": '"1"'})

    answers = await asyncio.gather(*(add(number) for number in range(20)))

    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 19
    assert {answer.headers["etag"] for answer in answers} == {'"2"'}
    assert await database.fetchval("SELECT count(*) FROM outbox") == 2


async def test_of_two_racing_for_one_address_one_wins(api: httpx.AsyncClient, database: Connection) -> None:
    async def race(email: str, username: str) -> httpx.Response:
        return await api.post("/users", json={"email": email, "username": username, "password": "a password"})

    answers = await asyncio.gather(*(race(f"{'aA'[i % 2]}nn@example.com", f"user{i}") for i in range(10)))

    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    assert {answer.json()["type"] for answer in answers if answer.status_code == 409} == {"/problems/email-taken"}
    assert await database.fetchval("SELECT count(*) FROM outbox") == 1


async def test_a_change_takes_two_round_trips(api: httpx.AsyncClient, app: Any, ann: dict[str, Any]) -> None:
    queries: list[str] = []
    async with app.state.resources.database.connection() as connection:
        connection.add_query_logger(lambda record: queries.append(record.query.split()[0]))

    # Another address or name is a transaction of two statements: it carries the failures of the old one over, too.
    await api.patch(f"/users/{ann['id']}/profile", json={"display_name": "new"})

    # The driver tells of a query in the loop's next turn.
    await asyncio.sleep(0)
    assert queries == ["SELECT", "WITH"]
