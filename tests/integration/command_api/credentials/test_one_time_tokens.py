"""One-time tokens: each changes one thing once, and whatever is wrong with one looks the same."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from chassis.consistency import ConsistencyToken
from chassis.postgres.database import connect, disconnect
from chassis.postgres.roles import RELAY
from chassis.settings import PostgresAddress
from command_api.credentials.purge import purge_tokens
from command_api.passwords.formats import verify
from command_api.passwords.hashing import Room
from tests.databases import as_role
from tests.envelopes import envelope_of
from tests.integration.command_api.conftest import Connection, problem, register, until_somebody_waits
from tests.issuing import bearer

RESET, VERIFICATION = "password-reset", "email-verification"
PASSWORD = "an unlisted new password"
#: A request that is as good as any, for each purpose.
CHOSEN: dict[str, dict[str, str]] = {RESET: {"password": PASSWORD}, VERIFICATION: {}}
ABSENT = "0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3a"


async def issue(api: httpx.AsyncClient, user: dict[str, Any], purpose: str = RESET, **more: Any) -> str:
    answer = await api.post(f"/users/{user['id']}/one-time-tokens", json={"purpose": purpose, **more})
    assert answer.status_code == 201, answer.text
    token: str = answer.json()["token"]
    return token


async def redeem(api: httpx.AsyncClient, token: str, *, headers: Any = None, **more: Any) -> httpx.Response:
    return await api.post("/one-time-tokens/redeem", json={"token": token, **more}, headers=headers)


def assert_invalid(answer: httpx.Response) -> None:
    problem(answer, 400, "invalid-one-time-token")


@pytest.mark.parametrize(("purpose", "seconds"), [(RESET, 3600), (VERIFICATION, 86_400)])
async def test_a_token_is_shown_once_and_kept_as_a_hash(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any], purpose: str, seconds: int
) -> None:
    before = datetime.now(UTC)
    answer = await api.post(f"/users/{ann['id']}/one-time-tokens", json={"purpose": purpose})

    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    shown = answer.json()
    assert (list(shown), shown["purpose"]) == (["token", "purpose", "expires_at"], purpose)
    assert len(shown["token"]) == 43
    assert shown["expires_at"].endswith("Z")
    assert before <= datetime.fromisoformat(shown["expires_at"]) - timedelta(seconds=seconds) <= datetime.now(UTC)
    [kept] = await database.fetch("SELECT t::text FROM one_time_tokens AS t")
    assert shown["token"] not in kept[0]
    assert shown["token"].encode().hex() not in kept[0]
    assert await database.fetchval("SELECT version FROM users") == 1, "nothing happened to the user"


async def test_a_reset_sets_the_password_and_says_so_in_an_event_of_whoever_redeems(
    api: httpx.AsyncClient, app: FastAPI, database: Connection, ann: dict[str, Any], logs: list[Any]
) -> None:
    token = await issue(api, ann)
    answer = await redeem(api, token, headers=bearer("login-app", ["credentials:redeem"]), password=PASSWORD)

    row = await database.fetchrow("SELECT * FROM users")
    appended = await database.fetchrow("SELECT * FROM outbox ORDER BY id DESC LIMIT 1")
    assert row is not None
    assert appended is not None
    envelope, published = envelope_of(appended["headers"]), json.loads(appended["value"])
    assert (envelope.type, envelope.actor) == ("muster.user.password_changed.v1", "login-app")
    assert (answer.status_code, answer.json(), answer.headers["etag"]) == (200, published["user"], '"2"')
    assert ConsistencyToken.decode(answer.headers["consistency-token"]).version == 2
    assert answer.headers["cache-control"] == "no-store"
    assert verify(PASSWORD, row["password_hash"])
    assert row["password_set_by"] == appended["event_id"]
    device = app.state.resources.handlers.checks.device_tokens.read(answer.headers["device-token"])
    assert device is not None
    assert (str(device.user_id), device.password_set_by) == (ann["id"], appended["event_id"])
    told = json.dumps([*logs, appended["headers"].decode("latin-1"), published], default=str)
    assert token not in told
    assert PASSWORD not in told


async def test_a_reset_ends_the_counters_of_the_account_and_no_others(
    api: httpx.AsyncClient, app: FastAPI, database: Connection, ann: dict[str, Any]
) -> None:
    attempts = app.state.resources.handlers.checks.attempts
    for identifier in (ann["email"].upper(), ann["username"], "bob"):
        await attempts.charge_login(identifier, None, Room(known_devices=True, others=True))
    verified = await redeem(api, await issue(api, ann, VERIFICATION))

    assert "device-token" not in verified.headers
    assert await database.fetchval("SELECT count(*) FROM credential_attempts") == 3
    assert (await redeem(api, await issue(api, ann), password=PASSWORD)).status_code == 200
    assert await database.fetchval("SELECT count(*) FROM credential_attempts") == 1


async def test_a_verification_verifies_the_address_once(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    token, other = await issue(api, ann, VERIFICATION), await issue(api, ann, RESET)
    answer = await redeem(api, token)

    assert (answer.status_code, answer.json()["email_verified"], answer.headers["etag"]) == (200, True, '"2"')
    headers = await database.fetchval("SELECT headers FROM outbox ORDER BY id DESC LIMIT 1")
    assert envelope_of(headers).type == "muster.user.email_verified.v1"
    assert_invalid(await redeem(api, token))
    # Nothing is left to do for another one, but it is used up all the same.
    again = await issue(api, ann, VERIFICATION)
    answer = await redeem(api, again)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert_invalid(await redeem(api, again))
    assert (await redeem(api, other, password=PASSWORD)).status_code == 200, "a verification ends no reset"


async def reissue(api: httpx.AsyncClient, user: dict[str, Any], purpose: str) -> None:
    await issue(api, user, purpose)


async def use(api: httpx.AsyncClient, user: dict[str, Any], purpose: str) -> None:
    """By another token of the purpose, which ends the first in any case."""
    answer = await redeem(api, await issue(api, user, purpose), **CHOSEN[purpose])
    assert answer.status_code == 200, answer.text


async def deactivate(api: httpx.AsyncClient, user: dict[str, Any], _: str) -> None:
    assert (await api.post(f"/users/{user['id']}/deactivate", json={})).status_code == 200


async def deactivate_for_a_while(api: httpx.AsyncClient, user: dict[str, Any], _: str) -> None:
    await deactivate(api, user, _)
    assert (await api.post(f"/users/{user['id']}/reactivate", json={})).status_code == 200


async def erase(api: httpx.AsyncClient, user: dict[str, Any], _: str) -> None:
    assert (await api.delete(f"/users/{user['id']}")).status_code == 204


async def change(api: httpx.AsyncClient, user: dict[str, Any], purpose: str) -> None:
    """What the token is bound to."""
    path, body = {RESET: ("password", CHOSEN[RESET]), VERIFICATION: ("email", {"email": "other@example.org"})}[purpose]
    assert (await api.put(f"/users/{user['id']}/{path}", json=body)).is_success


@pytest.mark.parametrize("meanwhile", [reissue, use, deactivate, deactivate_for_a_while, erase, change])
async def test_a_token_that_ended_looks_like_one_that_never_was(api: httpx.AsyncClient, meanwhile: Any) -> None:
    for purpose in (RESET, VERIFICATION):
        user = await register(api, f"of-{purpose}")
        token = await issue(api, user, purpose)
        await meanwhile(api, user, purpose)

        # The token is looked at first: nothing about the password is told to whoever has none that holds.
        for more in (CHOSEN[purpose], {}, {"password": "short"}, {"password": 5}):
            ended, unheard_of = [await redeem(api, sent, **more) for sent in (token, "x" * 43)]
            assert_invalid(ended)
            assert shape(ended) == shape(unheard_of)


def shape(answer: httpx.Response) -> tuple[Any, ...]:
    """All of an answer but its id and times."""
    headers = {name: value for name, value in answer.headers.items() if name not in {"x-request-id", "date"}}
    return answer.status_code, headers, answer.content.replace(answer.headers["x-request-id"].encode(), b"")


async def test_any_text_is_a_token_that_does_not_hold(api: httpx.AsyncClient) -> None:
    for token in ("", "x", "x" * 43, "ü" * 43, "\x00", "x" * 60_000):
        assert_invalid(await redeem(api, token))


async def test_a_token_holds_while_something_else_changes(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    token, verification = await issue(api, ann), await issue(api, ann, VERIFICATION)
    for path, body in (("username", {"username": "anna"}), ("email", {"email": "anna@example.org"})):
        assert (await api.put(f"/users/{ann['id']}/{path}", json=body)).status_code == 200
    await api.put(f"/users/{ann['id']}/email", json={"email": ann["email"]})

    assert (await redeem(api, verification)).status_code == 200, "it is the address of then"
    assert (await redeem(api, token, password=PASSWORD)).status_code == 200


async def test_a_token_ends_at_its_time(api: httpx.AsyncClient, app: FastAPI, ann: dict[str, Any]) -> None:
    later = timedelta(0)
    resources = app.state.resources
    clock = resources.one_time_tokens.users.clock
    users = replace(resources.handlers, clock=lambda: clock() + later)
    app.state.resources = replace(resources, one_time_tokens=replace(resources.one_time_tokens, users=users))
    token, longer = await issue(api, ann, ttl_seconds=60), await issue(api, ann, VERIFICATION, ttl_seconds=604_800)

    later = timedelta(seconds=60)
    assert_invalid(await redeem(api, token, password=PASSWORD))
    later = timedelta(seconds=604_700)
    assert (await redeem(api, longer)).status_code == 200


#: By purpose, what a request brings beside the token, and what is said of that.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (RESET, {}, "is required"),
    (RESET, {"password": None}, "is required"),
    (RESET, {"password": "short"}, "must have"),
    (RESET, {"password": 5}, "string"),
    (RESET, {"password": "x" * 1025}, "must have"),
    (RESET, {"password": "\x00" * 20}, "NUL"),
    (RESET, {"password": "PassWord1"}, "list of common"),
    (RESET, {"password": "ANN@example.com"}, "own e-mail"),
    (VERIFICATION, {"password": PASSWORD}, "takes no password"),
]


async def test_a_refused_password_does_not_use_the_token_up(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    tokens = {purpose: await issue(api, ann, purpose) for purpose in CHOSEN}
    for purpose, more, said in REFUSED:
        refused = problem(await redeem(api, tokens[purpose], **more), 422, "validation-error")
        assert said in refused["detail"]
        assert [error["pointer"] for error in refused["errors"]] == ["#/password"]

    for purpose, token in tokens.items():
        assert (await redeem(api, token, **CHOSEN[purpose])).status_code == 200


def one_of(answers: list[httpx.Response]) -> bool:
    """Whether one did it, and the token was no good to the others; on a slow machine some are told to come again."""
    found = Counter(answer.status_code for answer in answers)
    return found[200] == 1 and found[200] + found[400] + found[503] == len(answers)


@pytest.mark.parametrize("purpose", [RESET, VERIFICATION])
async def test_of_those_who_redeem_at_once_one_does(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any], purpose: str
) -> None:
    token = await issue(api, ann, purpose)
    answers = await asyncio.gather(*(redeem(api, token, **CHOSEN[purpose]) for _ in range(8)))

    assert one_of(answers)
    assert await database.fetchval("SELECT version FROM users") == 2


async def test_of_those_who_use_up_a_token_with_nothing_to_do_one_does(
    api: httpx.AsyncClient, ann: dict[str, Any]
) -> None:
    await use(api, ann, VERIFICATION)
    token = await issue(api, ann, VERIFICATION)
    answers = await asyncio.gather(*(redeem(api, token) for _ in range(8)))

    assert one_of(answers)


async def test_a_redemption_goes_on_when_others_changed_the_user(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    token = await issue(api, ann)
    async with database.transaction():
        await database.execute("UPDATE users SET version = 7, display_name = 'Meanwhile'")
        redeeming = asyncio.create_task(redeem(api, token, password=PASSWORD))
        await until_somebody_waits(database)
    answer = await redeeming

    assert (answer.status_code, answer.headers["etag"]) == (200, '"8"')
    assert answer.json()["display_name"] == "Meanwhile"


async def test_a_password_that_others_made_the_users_name_meanwhile_is_refused(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    token = await issue(api, ann)
    async with database.transaction():
        await database.execute("UPDATE users SET version = 7, display_name = $1", PASSWORD.upper())
        redeeming = asyncio.create_task(redeem(api, token, password=PASSWORD))
        await until_somebody_waits(database)

    assert "own display name" in problem(await redeeming, 422, "validation-error")["detail"]
    assert (await redeem(api, token, password="another unlisted password")).status_code == 200


@pytest.mark.parametrize("purpose", [RESET, VERIFICATION])
async def test_a_token_issued_while_another_is_redeemed_ends_it(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any], purpose: str
) -> None:
    token = await issue(api, ann, purpose)
    async with database.transaction():
        # As an issue does, which has not committed yet.
        await database.execute("SELECT FROM users FOR NO KEY UPDATE")
        await database.execute("UPDATE one_time_tokens SET digest = 'another'")
        redeeming = asyncio.create_task(redeem(api, token, **CHOSEN[purpose]))
        await until_somebody_waits(database)

    assert_invalid(await redeeming)
    assert await database.fetchval("SELECT version FROM users") == 1, "the change was undone with it"


async def test_a_token_issued_while_the_user_is_deactivated_ends_with_it(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    async with database.transaction():
        # As an issue does, which has not committed yet.
        await database.execute("SELECT FROM users FOR NO KEY UPDATE")
        await database.execute(
            "INSERT INTO one_time_tokens VALUES ('digest', $1, 'password-reset', 'bound', now() + '1 h')", ann["id"]
        )
        deactivating = asyncio.create_task(deactivate(api, ann, ""))
        await until_somebody_waits(database)
    await deactivating

    assert await database.fetchval("SELECT count(*) FROM one_time_tokens") == 0


async def test_a_token_is_bound_to_the_address_of_the_moment_in_which_it_is_issued(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    async with database.transaction():
        await database.execute("UPDATE users SET email = 'new@example.com', version = 2")
        issuing = asyncio.create_task(issue(api, ann, VERIFICATION))
        await until_somebody_waits(database)
    answer = await redeem(api, await issuing)

    assert (answer.status_code, answer.json()["email"]) == (200, "new@example.com")


async def test_nobody_and_the_deactivated_are_given_none(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    bob = await register(api, "bob")
    await deactivate(api, ann, "")
    await erase(api, bob, "")
    answers = [
        await api.post(f"/users/{user_id}/one-time-tokens", json={"purpose": RESET})
        for user_id in (ann["id"], bob["id"], ABSENT)
    ]

    problem(answers[0], 409, "user-deactivated")
    for answer in answers[1:]:
        problem(answer, 404, "user-not-found")


async def test_whoever_was_imported_without_a_password_is_given_one_by_a_reset(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    await database.execute("UPDATE users SET password_hash = NULL, password_set_by = NULL")
    token = await issue(api, ann)

    assert (await redeem(api, token, password=PASSWORD)).status_code == 200
    assert verify(PASSWORD, await database.fetchval("SELECT password_hash FROM users"))


async def test_a_wrong_purpose_or_lifetime_is_named(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    bodies = [{"purpose": RESET, "ttl_seconds": ttl} for ttl in (59, 604_801, 0, -1, "3600", 3600.5, True)]
    for body in (*bodies, {}, {"purpose": "other"}, {"purpose": RESET, "more": 1}):
        answer = await api.post(f"/users/{ann['id']}/one-time-tokens", json=body)
        [error] = problem(answer, 422, "validation-error")["errors"]
        assert error["pointer"] in {"#/ttl_seconds", "#/purpose", "#/more"}
    await issue(api, ann, ttl_seconds=60.0)


async def test_no_key_is_taken_and_nothing_is_kept_of_an_answer(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    key = {"Idempotency-Key": "k"}
    issued = await api.post(f"/users/{ann['id']}/one-time-tokens", json={"purpose": RESET}, headers=key)
    token = await issue(api, ann)
    redeemed = await redeem(api, token, headers=key, password=PASSWORD)

    for answer in (issued, redeemed):
        [error] = problem(answer, 400, "malformed-request")["errors"]
        assert error["header"] == "Idempotency-Key"
    assert await database.fetchval("SELECT count(*) FROM idempotency_records") == 0
    assert (await redeem(api, token, password=PASSWORD)).status_code == 200, "nothing was done"


async def test_expired_tokens_are_purged_batch_by_batch_by_the_relays_role(
    api: httpx.AsyncClient, database: Connection, command_database: PostgresAddress, ann: dict[str, Any]
) -> None:
    for name in ("bob", "cid", "dan"):
        await issue(api, await register(api, name))
    await database.execute("UPDATE one_time_tokens SET expires_at = now()")
    token = await issue(api, ann)
    connection = await connect(as_role(command_database, RELAY), application="test")
    try:
        assert await purge_tokens(connection, 2) == 3
        assert await purge_tokens(connection) == 0
    finally:
        await disconnect(connection)
    assert (await redeem(api, token, password=PASSWORD)).status_code == 200
