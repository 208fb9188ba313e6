"""`POST /credentials/verify`: who is let in, what the others learn, and how many hashes guesses cost."""

from collections.abc import MutableMapping
from typing import Any, Literal
from unicodedata import normalize

import httpx
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI

from chassis.settings import PostgresAddress
from command_api.app import create_app
from tests.integration.command_api.conftest import (
    Connection,
    make_settings,
    problem,
    register,
    serving,
)
from tests.integration.command_api.credentials.attempting import (
    MARK,
    PASSWORD,
    change,
    device_of,
    foreign_hash,
    hashes,
    log_in,
)
from tests.integration.command_api.imports.sent_lines import line, send
from tests.issuing import bearer
from tests.servers.refusing_proxy import RefusingProxy
from tests.waiting import until


@pytest.mark.parametrize("identifier", ["ann", "ANN", "ann@example.com", "Ann@EXAMPLE.com"])
async def test_a_right_password_gives_the_user_and_a_device_token(
    api: httpx.AsyncClient, ann: dict[str, Any], database: Connection, identifier: str
) -> None:
    answer = await log_in(api, identifier)

    assert answer.status_code == 200
    assert answer.json()["user"] == ann
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["consistency-token"]
    assert answer.headers["cache-control"] == "no-store"
    # It publishes nothing, and the counter has ended.
    assert await database.fetchval("SELECT count(*) FROM outbox") == 1
    assert await database.fetchval("SELECT count(*) FROM credential_attempts") == 0
    again = await log_in(api, identifier, device_token=answer.json()["device_token"])
    assert again.json()["device_token"] != answer.json()["device_token"]


@pytest.mark.parametrize("token", ["", "nonsense", "x" * 4096, "\0"])
async def test_a_device_token_that_is_none_keeps_nobody_out(
    api: httpx.AsyncClient, ann: dict[str, Any], token: str
) -> None:
    answer = await log_in(api, "ann", device_token=token)

    assert answer.status_code == 200
    assert answer.json()["device_token"] != token


async def test_whatever_is_wrong_has_the_same_answer_and_costs_one_hash(
    api: httpx.AsyncClient, database: Connection
) -> None:
    users = {name: await register(api, name) for name in ("wrong", "deactivated", "erased", "passwordless", "imported")}
    await api.post(f"/users/{users['deactivated']['id']}/deactivate")
    await api.delete(f"/users/{users['erased']['id']}")
    await database.execute("UPDATE users SET password_hash = NULL WHERE username = 'passwordless'")
    await database.execute("UPDATE users SET password_hash = $1 WHERE username = 'imported'", foreign_hash(PASSWORD))
    answers = []
    for name in ("wrong", "imported", "unknown", "deactivated", "erased", "passwordless"):
        for identifier in (name, f"{name}@example.com"):
            before = hashes()
            password = "a wrong password" if name in {"wrong", "imported"} else f"{name}'s password"
            answers.append(await log_in(api, identifier, password))
            assert hashes() - before == 1, identifier

    for answer in answers:
        problem(answer, 403, "invalid-credentials")
    assert len({answer.text.replace(answer.headers["x-request-id"], "ID") for answer in answers}) == 1
    of_each = {tuple((name, value) for name, value in a.headers.items() if name != "x-request-id") for a in answers}
    assert len(of_each) == 1


async def test_ten_failures_refuse_unread_and_a_known_device_logs_in(
    api: httpx.AsyncClient, ann: dict[str, Any]
) -> None:
    device = await device_of(api)
    for _ in range(10):
        problem(await log_in(api, password="a guess"), 403, "invalid-credentials")
    before = hashes()

    refused = await log_in(api)
    unknown = [await log_in(api, "nobody") for _ in range(11)][-1]

    problem(refused, 429, "too-many-attempts")
    assert 50 <= int(refused.headers["retry-after"]) <= 60
    assert hashes() - before == 10  # those of nobody
    problem(unknown, 429, "too-many-attempts")
    assert (await log_in(api, device_token=device)).status_code == 200
    # The address has a counter of its own, and the device's failures are its own.
    assert (await log_in(api, "ann@example.com")).status_code == 200
    for _ in range(10):
        problem(await log_in(api, "ann@example.com", "a guess", device_token=device), 403, "invalid-credentials")
    problem(await log_in(api, "ann@example.com", device_token=device), 429, "too-many-attempts")
    assert (await log_in(api, "ann@example.com")).status_code == 200


async def test_a_success_ends_the_counter_it_came_through(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    for _ in range(2):
        for _ in range(9):
            problem(await log_in(api, password="a guess"), 403, "invalid-credentials")
        assert (await log_in(api)).status_code == 200


async def test_a_device_token_ends_with_the_password_and_is_nobody_elses(
    api: httpx.AsyncClient, ann: dict[str, Any], database: Connection
) -> None:
    await register(api, "bob")
    old, bobs = await device_of(api), await device_of(api, "bob", "bob's password")
    await api.put(f"/users/{ann['id']}/password", json={"password": "another one's password"})

    for token in (old, bobs, "nonsense", None):
        problem(await log_in(api, device_token=token), 403, "invalid-credentials")

    assert await database.fetchval("SELECT cardinality(failed_at) FROM credential_attempts") == 4


@pytest.mark.parametrize(
    "outdated",
    [
        PasswordHasher(memory_cost=16, time_cost=1, parallelism=1).hash(PASSWORD),
        foreign_hash(PASSWORD),
    ],
    ids=["other parameters", "another form"],
)
async def test_a_success_hashes_an_outdated_password_anew_without_an_event(
    api: httpx.AsyncClient, ann: dict[str, Any], database: Connection, outdated: str
) -> None:
    await database.execute("UPDATE users SET password_hash = $1", outdated)
    row = "SELECT version, event_id, password_set_by, updated_at FROM users"
    before, device = await database.fetchrow(row), await device_of(api)

    stored = await database.fetchval("SELECT password_hash FROM users")

    assert stored.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert await database.fetchrow(row) == before
    assert (await log_in(api, device_token=device)).status_code == 200
    assert await database.fetchval("SELECT password_hash FROM users") == stored


@pytest.mark.parametrize("form", ["NFD", "NFC", "NFKC"])
async def test_an_imported_hash_with_our_very_parameters_was_made_of_any_unicode_form(
    api: httpx.AsyncClient, app: FastAPI, database: Connection, form: Literal["NFD", "NFC", "NFKC"]
) -> None:
    typed = normalize("NFD", "cafe\u0301 o\ufb03ce")
    hasher = app.state.resources.log_ins.checks.passwords._hasher
    await send(api, line("ann", password_hash=hasher.hash(normalize(form, typed))))

    problem(await log_in(api, password=typed + "!"), 403, "invalid-credentials")
    assert (await log_in(api, password=typed)).status_code == 200
    # One of ours from now on.
    assert (await database.fetchval("SELECT password_hash FROM users")).startswith("$argon2id$")
    assert (await log_in(api, password=normalize("NFC", typed))).status_code == 200


async def test_an_outdated_password_that_is_replaced_meanwhile_is_not_hashed_anew(
    api: httpx.AsyncClient, app: FastAPI, ann: dict[str, Any], database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.execute("UPDATE users SET password_hash = $1", foreign_hash(PASSWORD))
    attempts = type(app.state.resources.log_ins.checks.attempts)
    succeed = attempts.succeed

    async def succeed_late(*args: Any) -> Any:
        assert args[-1].startswith("$argon2id$"), "the hash of the old password, anew"
        assert (await change(api, ann, None)).status_code == 204
        return await succeed(*args)

    monkeypatch.setattr(attempts, "succeed", succeed_late)
    problem(await log_in(api), 403, "invalid-credentials")
    monkeypatch.undo()

    assert (await log_in(api, password="another of ann's")).status_code == 200
    problem(await log_in(api), 403, "invalid-credentials")


async def test_a_success_is_answered_although_an_outdated_password_cannot_be_hashed_anew_now(
    api: httpx.AsyncClient, app: FastAPI, ann: dict[str, Any], database: Connection
) -> None:
    imported = foreign_hash(PASSWORD)
    await database.execute("UPDATE users SET password_hash = $1", imported)
    lane = app.state.resources.log_ins.checks.passwords._hashes
    lane._pending = lane._limit  # as if others' new passwords had every place

    assert (await log_in(api)).status_code == 200
    assert await database.fetchval("SELECT password_hash FROM users") == imported
    lane._pending = 0
    assert (await log_in(api)).status_code == 200
    assert (await database.fetchval("SELECT password_hash FROM users")).startswith("$argon2id$")


@pytest.mark.parametrize("checked", ["verify", "current_password"])
async def test_an_attempt_does_not_count_where_the_database_goes_away_before_its_success(
    command_database: PostgresAddress, database: Connection, checked: str
) -> None:
    one = {"COMMAND_POSTGRES_POOL_SIZE": 1, "COMMAND_POSTGRES_MAX_OVERFLOW": 0, "OUTBOX_NOTIFY": False}
    async with (
        RefusingProxy(command_database).listening() as proxy,
        serving(create_app(make_settings(proxy.address, **one))) as api,
    ):
        ann = await register(api, "ann")

        async def uncounted() -> bool:
            return await database.fetchval("SELECT count(*) FROM credential_attempts") == 0  # type: ignore[no-any-return]

        refused = 0
        for statement in range(1, 30):
            proxy.refuse(statement, "57P01")
            answer = await (log_in(api) if checked == "verify" else change(api, ann, PASSWORD, password=PASSWORD))
            if not proxy.has_refused:
                assert answer.is_success
                break
            refused += 1
            problem(answer, 503, "unavailable")
            await until(uncounted, within=10, what=f"the attempt that met statement {statement} is taken back")
    assert refused >= 2, "the charge and the success"


async def test_log_lines_name_the_user_on_success_and_else_a_mark(
    api: httpx.AsyncClient, ann: dict[str, Any], logs: list[MutableMapping[str, Any]]
) -> None:
    device = await device_of(api)
    await log_in(api, "Ann@Example.com", "a guess", device_token=device)
    await log_in(api, "nobody@example.com", "a guess")

    lines = [line for line in logs if line["event"].startswith("credentials.")]
    assert [line["event"] for line in lines] == ["credentials.verified", "credentials.refused", "credentials.refused"]
    assert lines[0]["user_id"] == ann["id"]
    assert [line["identifier"] for line in lines[1:]] == [MARK("ann@example.com"), MARK("nobody@example.com")]
    assert lines[0]["actor"] == "operator"
    wrong = {"password": "a new guess", "current_password": "a guess"}
    problem(await api.put(f"/users/{ann['id']}/password", json=wrong), 403, "wrong-password")
    problem(await api.post("/one-time-tokens/redeem", json={"token": "a guess"}), 400, "invalid-one-time-token")
    *_, current, redeemed = [line for line in logs if line["event"].endswith(".refused") or "token" in line["event"]]
    assert (current["event"], current["user_id"], current["actor"]) == ("credentials.refused", ann["id"], "operator")
    assert (redeemed["event"], redeemed["actor"]) == ("command.token_refused", "operator")
    said = repr(logs)
    for secret in ("example.com", "a guess", PASSWORD, device):
        assert secret not in said


@pytest.mark.parametrize(
    ("body", "headers", "status", "slug"),
    [
        ({"identifier": "ann", "password": "x"}, {"Idempotency-Key": "k"}, 400, "malformed-request"),
        ({"identifier": "", "password": "x"}, {}, 422, "validation-error"),
        ({"identifier": "a\0b", "password": "x"}, {}, 422, "validation-error"),
        ({"identifier": "a" * 319, "password": "x"}, {}, 422, "validation-error"),
        ({"identifier": "ann", "password": ""}, {}, 422, "validation-error"),
        ({"identifier": "ann", "password": "x" * 1025}, {}, 422, "validation-error"),
        ({"identifier": "ann", "password": "x", "more": 1}, {}, 422, "validation-error"),
        ({"identifier": "ann", "password": "x"}, bearer("shop", ["users:write", "self"]), 403, "forbidden"),
    ],
)
async def test_what_cannot_be_verified_is_refused(
    api: httpx.AsyncClient, body: dict[str, Any], headers: dict[str, str], status: int, slug: str
) -> None:
    problem(await api.post("/credentials/verify", json=body, headers=headers), status, slug)


@pytest.mark.parametrize("name", ["ann@home", "ann\uff20home", "ann\ufe6bhome"])
async def test_a_new_username_has_no_at_sign(api: httpx.AsyncClient, ann: dict[str, Any], name: str) -> None:
    answer = await api.put(f"/users/{ann['id']}/username", json={"username": name})

    assert "@" in problem(answer, 422, "validation-error")["errors"][0]["detail"]


@pytest.mark.parametrize("identifier", ["email", "username"])
async def test_another_address_or_name_begins_with_the_failures_of_the_old_one(
    api: httpx.AsyncClient, ann: dict[str, Any], identifier: str
) -> None:
    """Else a stolen token with `self` would have ten guesses more with each change."""
    own, old = bearer(ann["id"], ["self"]), ann[identifier]
    for _ in range(10):
        problem(await log_in(api, old, "a guess"), 403, "invalid-credentials")

    changed = await api.put(f"/users/{ann['id']}/{identifier}", json={identifier: f"new.{old}"}, headers=own)

    assert changed.status_code == 200
    problem(await log_in(api, f"new.{old}"), 429, "too-many-attempts")
    problem(await log_in(api, old), 429, "too-many-attempts")
    other = {"email": "username", "username": "email"}[identifier]
    assert (await log_in(api, ann[other])).status_code == 200


async def test_who_has_another_name_by_the_end_of_the_hash_was_not_let_in(
    api: httpx.AsyncClient, app: FastAPI, ann: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = app.state.resources.log_ins.checks.passwords
    matches = type(checks).matches

    async def matches_late(*args: Any, **kwargs: Any) -> bool:
        found: bool = await matches(*args, **kwargs)
        await api.put(f"/users/{ann['id']}/username", json={"username": "another"})
        return found

    monkeypatch.setattr(type(checks), "matches", matches_late)

    problem(await log_in(api, "ann"), 403, "invalid-credentials")
    assert (await log_in(api, "another")).status_code == 200


class TestCurrentPassword:
    """`current_password` in `PUT /users/{id}/password` is an attempt like others."""

    async def test_it_counts_on_the_counter_of_the_users_address(
        self, api: httpx.AsyncClient, ann: dict[str, Any]
    ) -> None:
        for number in range(10):
            if number % 2:
                problem(await log_in(api, "ann@example.com", "a guess"), 403, "invalid-credentials")
            else:
                problem(await change(api, ann, "a guess"), 403, "wrong-password")

        refused = await change(api, ann, PASSWORD)

        problem(refused, 429, "too-many-attempts")
        assert int(refused.headers["retry-after"]) > 0
        problem(await log_in(api, "ann@example.com"), 429, "too-many-attempts")
        # An administrator's reset checks nothing.
        assert (await change(api, ann, None)).status_code == 204

    async def test_a_users_own_token_has_a_counter_of_its_own(self, command_database: PostgresAddress) -> None:
        async with serving(create_app(make_settings(command_database, RATE_LIMIT_SELF="off"))) as api:
            ann = await register(api, "ann")
            own = bearer(ann["id"], ["self"])
            for _ in range(10):
                problem(await change(api, ann, "a guess", headers=own), 403, "wrong-password")

            problem(await change(api, ann, PASSWORD, headers=own), 429, "too-many-attempts")
            assert (await change(api, ann, PASSWORD)).status_code == 204

    async def test_a_known_device_has_its_own_counter_and_gets_a_new_token(
        self, api: httpx.AsyncClient, ann: dict[str, Any], database: Connection
    ) -> None:
        device = await device_of(api)
        for _ in range(10):
            await log_in(api, "ann@example.com", "a guess")

        answer = await change(api, ann, PASSWORD, device_token=device, headers={"Idempotency-Key": "k"})
        again = await change(api, ann, PASSWORD, device_token=device, headers={"Idempotency-Key": "k"})
        old = await change(api, ann, "another of ann's", password="a third of ann's", device_token=device)

        assert answer.status_code == again.status_code == 204
        renewed = answer.headers["device-token"]
        assert (await log_in(api, "ann@example.com", "another of ann's", device_token=renewed)).status_code == 200
        problem(old, 429, "too-many-attempts")
        # A token is kept nowhere, so a replay has none.
        assert "device-token" not in again.headers
        assert renewed not in str(await database.fetch("SELECT * FROM idempotency_records"))

    @pytest.mark.parametrize("token", ["nonsense", "x" * 4096, None])
    async def test_without_a_valid_token_there_is_no_new_one(
        self, api: httpx.AsyncClient, ann: dict[str, Any], token: str | None
    ) -> None:
        answer = await change(api, ann, PASSWORD, device_token=token)

        assert answer.status_code == 204
        assert "device-token" not in answer.headers

    async def test_who_has_no_password_has_no_current_one(
        self, api: httpx.AsyncClient, ann: dict[str, Any], database: Connection
    ) -> None:
        await database.execute("UPDATE users SET password_hash = NULL")

        problem(await change(api, ann, PASSWORD), 403, "wrong-password")
        assert (await change(api, ann, None)).status_code == 204
        assert (await log_in(api, password="another of ann's")).status_code == 200
