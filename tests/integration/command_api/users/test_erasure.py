"""DELETE /users/{id}: the person is forgotten, what a retry needs is not."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from chassis.consistency import ConsistencyToken
from tests.envelopes import envelope_of
from tests.integration.command_api.conftest import Connection, problem, register, registration, until_somebody_waits

CANARY = "canary"


async def test_an_erasure_leaves_the_id_and_the_version_and_appends_a_tombstone(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    answer = await api.delete(f"/users/{ann['id']}")

    assert (answer.status_code, answer.content, answer.headers["etag"]) == (204, b"", '"2"')
    assert ConsistencyToken.decode(answer.headers["consistency-token"]).version == 2
    tombstone = await database.fetchrow("SELECT * FROM outbox ORDER BY id DESC LIMIT 1")
    assert tombstone is not None
    envelope = envelope_of(tombstone["headers"])
    assert (envelope.type, envelope.version) == ("muster.user.erased.v1", 2)
    assert tombstone["value"] is None
    assert await database.fetchval("SELECT count(*) FROM users") == 0
    erased = await database.fetchrow("SELECT id, version FROM erased_users")
    assert erased is not None
    assert (str(erased["id"]), erased["version"]) == (ann["id"], 2)


async def test_erasing_again_succeeds_with_the_same_token(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    first = await api.delete(f"/users/{ann['id']}")
    again = await api.delete(f"/users/{ann['id']}")
    stale = await api.delete(f"/users/{ann['id']}", headers={"If-Match": '"1"'})

    assert (first.status_code, again.status_code, stale.status_code) == (204, 204, 204)
    assert first.headers["consistency-token"] == again.headers["consistency-token"]


async def test_nobody_can_be_erased(api: httpx.AsyncClient) -> None:
    problem(await api.delete("/users/0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3a"), 404, "user-not-found")


async def test_the_erased_is_nobody_to_every_other_command(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    await api.delete(f"/users/{ann['id']}")

    for answer in (
        await api.put(f"/users/{ann['id']}/username", json={"username": "new"}),
        await api.post(f"/users/{ann['id']}/reactivate"),
        await api.put(f"/users/{ann['id']}/password", json={"password": "another password"}),
    ):
        problem(answer, 404, "user-not-found")


async def test_address_and_name_are_free_again(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    await api.delete(f"/users/{ann['id']}")

    other = await register(api, "ann")

    assert other["id"] != ann["id"]
    assert other["version"] == 1


async def test_a_deactivated_user_can_be_erased(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    await api.post(f"/users/{ann['id']}/deactivate")

    assert (await api.delete(f"/users/{ann['id']}")).status_code == 204


async def test_nothing_personal_stays_in_any_table_or_log(
    api: httpx.AsyncClient, database: Connection, logs: list[Any]
) -> None:
    """Once the relay has published (and so deleted) the events before the tombstone."""
    user = await _live(api)
    await api.delete(f"/users/{user['id']}", headers={"Idempotency-Key": f"{CANARY}-erase"})
    await database.execute("DELETE FROM outbox WHERE value IS NOT NULL")

    tables = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    found = {}
    for table in tables:
        rows = await database.fetch(
            f'SELECT t::text AS text, row_to_json(t)::text AS json FROM "{table["tablename"]}" t'
        )
        found[table["tablename"]] = [row for row in rows if _mentions(row["text"]) or _mentions(row["json"])]
    assert not any(found.values()), found
    assert len(found) >= 4
    assert any(entry["event"] == "command.committed" for entry in logs)
    assert not _mentions(json.dumps(logs, default=str))


async def _live(api: httpx.AsyncClient) -> dict[str, Any]:
    """A user with the canary in everything that can hold text."""
    headers = {"Idempotency-Key": f"{CANARY}-register"}
    body = registration(CANARY, display_name=f"{CANARY} name", attributes={CANARY: [CANARY]})
    user: dict[str, Any] = (await api.post("/users", json=body, headers=headers)).json()
    url = f"/users/{user['id']}"
    headers = {"Idempotency-Key": f"{CANARY}-change"}
    await api.put(f"{url}/email", json={"email": f"{CANARY}2@example.com"}, headers=headers)
    # Changes nothing, but stores an answer.
    await api.put(f"{url}/email", json={"email": f"{CANARY}2@example.com"}, headers={"Idempotency-Key": "again"})
    await api.put(f"{url}/password", json={"password": f"{CANARY} password"})
    await api.post(f"{url}/deactivate", json={"reason": f"{CANARY} reason"})
    return user


def _mentions(text: str) -> bool:
    return CANARY in text or CANARY.encode().hex() in text


async def test_stored_answers_become_gone_and_the_erasures_own_stays(
    api: httpx.AsyncClient, database: Connection
) -> None:
    async def post() -> httpx.Response:
        return await api.post("/users", json=registration("ann"), headers={"Idempotency-Key": "register"})

    user = (await post()).json()
    erase = {"headers": {"Idempotency-Key": "erase"}}

    first = await api.delete(f"/users/{user['id']}", **erase)  # type: ignore[arg-type]
    again = await api.delete(f"/users/{user['id']}", **erase)  # type: ignore[arg-type]

    problem(await post(), 410, "user-erased")
    assert (first.status_code, again.status_code) == (204, 204)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["consistency-token"] == first.headers["consistency-token"]
    assert await database.fetchval("SELECT count(*) FROM users") == 0, "nothing was registered again"


@pytest.mark.parametrize("round_", range(5))
async def test_no_answer_slips_past_an_erasure_that_runs_beside_it(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any], round_: int
) -> None:
    """A command that changes nothing holds no lock on the user by itself; its stored answer must not survive."""

    async def touch(number: int) -> httpx.Response:
        headers = {"Idempotency-Key": f"{round_}-{number}"}
        return await api.put(f"/users/{ann['id']}/username", json={"username": "ann"}, headers=headers)

    answers = await asyncio.gather(
        *(touch(number) for number in range(5)),
        api.delete(f"/users/{ann['id']}"),
        *(touch(number) for number in range(5, 10)),
    )

    assert {answer.status_code for answer in answers} <= {200, 204, 404}
    assert await database.fetchval("SELECT count(*) FROM idempotency_records WHERE body IS NOT NULL") == 0
    assert await database.fetchval("SELECT count(*) FROM idempotency_bodies") == 0


async def test_shared_bodies_go_with_the_user_where_an_older_release_erases_which_does_not_know_them(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    await api.put(f"/users/{ann['id']}/username", json={"username": "ann"}, headers={"Idempotency-Key": "1"})
    assert await database.fetchval("SELECT count(*) FROM idempotency_bodies") == 1

    await database.execute("DELETE FROM users WHERE id = $1", ann["id"])

    assert await database.fetchval("SELECT count(*) FROM idempotency_bodies") == 0


async def test_an_erasure_waits_for_a_change_that_holds_the_user_and_forgets_its_answer_too(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    """The change stores its answer while the erasure waits for the lock: a single statement would not see it."""
    transaction = database.transaction()
    await transaction.start()
    await database.execute("UPDATE users SET username = username")
    erasure = asyncio.create_task(api.delete(f"/users/{ann['id']}"))
    await until_somebody_waits(database)
    await database.execute(
        "INSERT INTO idempotency_records (digest, fingerprint, subject_id, status, headers, body)"
        " VALUES ('d', 'f', $1, 200, '{}', 'canary')",
        ann["id"],
    )
    await transaction.commit()

    assert (await erasure).status_code == 204
    assert await database.fetchval("SELECT status FROM idempotency_records") == 410
