"""Floods of attempts at one account: how many hashes they cost, and what they leave to the owner and to others."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from pydantic import SecretStr

from chassis.settings import PostgresAddress
from command_api.app import create_app
from command_api.credentials.attempts.lines import AT_ONCE, WAITING
from command_api.credentials.attempts.refusals import MEMORY_SECONDS, Refusals
from command_api.credentials.attempts.rule import identifier_key, of_identifier
from command_api.http.refused_guesses import RefusedGuesses
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
    hashes,
    log_in,
)
from tests.waiting import until


@pytest.mark.parametrize(
    "flooded", [*itertools.product(("verify", "current_password"), ("ended", "stolen"))], ids=" ".join
)
async def test_a_flood_with_a_token_keeps_no_device_of_the_owner_out(
    api: httpx.AsyncClient, app: FastAPI, ann: dict[str, Any], monkeypatch: pytest.MonkeyPatch, flooded: tuple[str, str]
) -> None:
    through, token = flooded
    tokens = {"ended": await device_of(api)}
    assert (await change(api, ann, PASSWORD, password=PASSWORD)).status_code == 204
    tokens["stolen"], phone = await device_of(api), await device_of(api)
    passwords = type(app.state.resources.log_ins.checks.passwords)
    matches, may_end = passwords.matches, asyncio.Event()

    async def matches_late(self: Any, password: SecretStr, *args: Any, **kwargs: Any) -> bool:
        if password.get_secret_value() == "a guess":
            await may_end.wait()
        found: bool = await matches(self, password, *args, **kwargs)
        return found

    monkeypatch.setattr(passwords, "matches", matches_late)
    verify = through == "verify"

    def guess() -> asyncio.Task[httpx.Response]:
        return asyncio.create_task(
            log_in(api, "ann@example.com", "a guess", device_token=tokens[token])
            if verify
            else change(api, ann, "a guess", device_token=tokens[token])
        )

    flood = [guess() for _ in range(80)]

    async def is_full() -> bool:
        found = [task.result().status_code for task in flood if task.done()]
        # Where the machine is slow, some wait too long for a connection, are answered 503, and come again.
        flood.extend(guess() for _ in range(80 + found.count(503) - len(flood)))
        return 429 in found

    await until(is_full, within=60, what="the line is full")
    assert await served(lambda: log_in(api, "ann@example.com", device_token=phone)) == 200
    assert await served(lambda: change(api, ann, PASSWORD, device_token=phone)) == 204
    may_end.set()
    answers = Counter(answer.status_code for answer in await asyncio.gather(*flood) if answer.status_code != 503)
    assert set(answers) == {403, 429}
    assert answers[403] <= 10


async def test_a_flood_is_refused_from_memory_as_soon_as_its_line_is_full(
    api: httpx.AsyncClient, app: FastAPI, ann: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So its first hashes need not be computed before the rest of it costs little."""
    del ann
    checks, device = app.state.resources.log_ins.checks, await device_of(api)
    stopped_clock(app)
    passwords, may_end = type(checks.passwords), asyncio.Event()
    matches = passwords.matches

    async def matches_late(self: Any, password: SecretStr, *args: Any, **kwargs: Any) -> bool:
        if password.get_secret_value() == "a guess":
            await may_end.wait()
        found: bool = await matches(self, password, *args, **kwargs)
        return found

    monkeypatch.setattr(passwords, "matches", matches_late)
    flood = [asyncio.create_task(log_in(api, "ann@example.com", "a guess")) for _ in range(AT_ONCE + WAITING + 1)]

    async def is_known() -> bool:
        return bool(checks.attempts.refusals.expect(of_identifier(checks.keys, "ann@example.com")))

    await until(is_known, within=60, what="the line is full")
    problem(await log_in(api, "ANN@example.com"), 429, "too-many-attempts")
    assert (await log_in(api, device_token=device)).status_code == 200
    assert (await log_in(api, "ann")).status_code == 200, "another identifier has a counter of its own"
    may_end.set()
    assert {answer.status_code for answer in await asyncio.gather(*flood)} <= {403, 429, 503}


async def test_a_guess_that_is_to_be_refused_is_known_by_its_bytes(
    api: httpx.AsyncClient, app: FastAPI, ann: dict[str, Any]
) -> None:
    """Of what only looks like one, or comes with a token, nothing waits."""
    del ann
    stopped_clock(app)
    knows = RefusedGuesses(lambda _: True)
    for _ in range(11):
        await log_in(api, "ann", "a guess")

    def may_wait(body: str, *, path: str = "/credentials/verify", before: bytes = b"") -> bool:
        return knows.may_wait(app, before + f"POST {path} HTTP/1.1\r\n\r\n{body}".encode(), len(before))

    assert may_wait('{"identifier":"ann","password":"x"}')
    assert may_wait('{"password": "x", "identifier" : "ANN", "device_token": null}', before=b"{}")
    assert not may_wait('{"identifier":"ann","password":"x","device_token":"t"}')
    assert not may_wait('{"identifier":"bob","password":"x"}')
    assert not may_wait('{"identifier":"ann","password":"x"}', path="/users")
    assert not may_wait("")
    long, checks = "a" * 5000, app.state.resources.log_ins.checks
    checks.attempts.refusals.note(of_identifier(checks.keys, identifier_key(long)), 60)
    assert not may_wait(f'{{"identifier":"{long}","password":"x"}}'), "no key is made of what is far too long"


async def served(ask: Callable[[], Awaitable[httpx.Response]]) -> int:
    """The status of the first answer that is not 503."""
    async with asyncio.timeout(60):
        while (status := (await ask()).status_code) == 503:
            pass
    return status


async def test_of_a_flood_of_guesses_few_are_hashed_while_the_owners_device_logs_in(
    command_database: PostgresAddress,
) -> None:
    """Two apps stand for two processes: only the database has them count on one counter."""
    apps = [create_app(make_settings(command_database)) for _ in range(2)]
    async with serving(apps[0]) as one, serving(apps[1]) as other:
        await register(one, "ann")
        device = await device_of(one)
        before = hashes()

        guesses = [log_in((one, other)[number % 2], password=f"guess {number}") for number in range(300)]
        *answers, owner = await asyncio.gather(*guesses, log_in(other, device_token=device))

        # Where the machine is slow, some wait too long for a connection, and are answered 503.
        found = Counter(answer.status_code for answer in answers if answer.status_code != 503)
        assert set(found) == {403, 429}
        assert found[403] <= 10
        assert hashes() - before <= 11
        if owner.status_code == 503:
            owner = await log_in(other, device_token=device)
        assert owner.status_code == 200
        problem(await log_in(one), 429, "too-many-attempts")


@pytest.mark.parametrize("whose", ["ann", "nobody"])
async def test_of_guesses_that_are_refused_one_a_second_asks_the_database(
    api: httpx.AsyncClient, app: FastAPI, ann: dict[str, Any], whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, clock = await device_of(api), stopped_clock(app)
    attempts = type(app.state.resources.log_ins.checks.attempts)
    charge_login, asked = attempts.charge_login, 0

    async def counted(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        return await charge_login(*args)

    monkeypatch.setattr(attempts, "charge_login", counted)
    for _ in range(10):
        problem(await log_in(api, whose, "a guess"), 403, "invalid-credentials")
    for second in range(1, 4):
        answers = [await log_in(api, whose.upper()) for _ in range(20)]

        assert {answer.status_code for answer in answers} == {429}
        assert {50 <= int(answer.headers["retry-after"]) <= 60 for answer in answers} == {True}
        assert asked == 10 + second
        clock.append(clock[-1] + MEMORY_SECONDS)
    assert len({answer.text.replace(answer.headers["x-request-id"], "ID") for answer in answers}) == 1
    assert len({tuple(answer.headers) for answer in answers}) == 1
    # The owner's device is counted by itself, and is let in meanwhile.
    assert (await log_in(api, device_token=device)).status_code == 200


async def test_a_reset_lets_the_owner_in_at_once_and_in_another_process_when_it_asks_anew(
    command_database: PostgresAddress,
) -> None:
    apps = [create_app(make_settings(command_database)) for _ in range(2)]
    async with serving(apps[0]) as one, serving(apps[1]) as other:
        ann = await register(one, "ann")
        clock = [stopped_clock(app) for app in apps][1]
        for _ in range(10):
            await log_in(one, password="a guess")
        for api in (one, other):
            problem(await log_in(api), 429, "too-many-attempts")
        issued = await one.post(f"/users/{ann['id']}/one-time-tokens", json={"purpose": "password-reset"})
        new = "an unlisted new password"
        redeemed = await one.post("/one-time-tokens/redeem", json={"token": issued.json()["token"], "password": new})

        assert redeemed.status_code == 200
        assert (await log_in(one, password=new)).status_code == 200
        problem(await log_in(other, password=new), 429, "too-many-attempts")
        device = redeemed.headers["device-token"]
        assert (await log_in(other, password=new, device_token=device)).status_code == 200
        clock.append(clock[-1] + MEMORY_SECONDS)
        assert (await log_in(other, password=new)).status_code == 200


def stopped_clock(app: FastAPI) -> list[float]:
    """The times that the process's memory of refusals has seen, the last of which it takes for the present."""
    times = [1000.0]
    app.state.resources.log_ins.checks.attempts.refusals = Refusals(lambda: times[-1])
    return times


async def test_right_passwords_that_come_at_once_in_several_processes_are_no_guesses(
    command_database: PostgresAddress,
) -> None:
    async with AsyncExitStack() as stack:
        settings = make_settings(command_database, CREDENTIALS_FAILURES=3)
        apis = [await stack.enter_async_context(serving(create_app(settings))) for _ in range(3)]
        await register(apis[0], "ann")

        answers = await asyncio.gather(*(log_in(apis[number % 3]) for number in range(30)))

    assert Counter(answer.status_code for answer in answers if answer.status_code != 503) == {
        200: len([answer for answer in answers if answer.status_code != 503])
    }


async def test_a_full_queue_of_hashes_uncounts_the_attempt_and_known_devices_have_their_share(
    command_database: PostgresAddress, database: Connection
) -> None:
    settings = make_settings(command_database, HASHING_THREADS=1, HASHING_QUEUE=0)
    app = create_app(settings)
    async with serving(app) as api:
        await register(api, "ann")
        device = await device_of(api)
        lane = app.state.resources.log_ins.checks.passwords._checks
        lane._pending = lane._limit  # as if others' checks had every place
        busy = [await log_in(api) for _ in range(12)]
        known = await log_in(api, device_token=device)
        lane._pending = 0

        for answer in busy:
            problem(answer, 503, "busy")
        assert known.status_code == 200
        assert await database.fetchval("SELECT count(*) FROM credential_attempts") == 0
        assert (await log_in(api)).status_code == 200


async def test_a_token_that_has_ended_has_no_share_in_the_queue_of_known_devices(
    api: httpx.AsyncClient, app: FastAPI, ann: dict[str, Any]
) -> None:
    ended = await device_of(api)
    assert (await change(api, ann, PASSWORD, password=PASSWORD)).status_code == 204
    valid, passwords = await device_of(api), app.state.resources.log_ins.checks.passwords

    passwords._known_devices._pending = passwords._known_devices._limit
    problem(await log_in(api, device_token=valid), 503, "busy")
    assert (await log_in(api, device_token=ended)).status_code == 200
    passwords._known_devices._pending = 0
    passwords._checks._pending = passwords._checks._limit
    assert (await log_in(api, device_token=valid)).status_code == 200
    problem(await log_in(api, device_token=ended), 503, "busy")
    passwords._checks._pending = 0


async def test_a_flood_writes_a_line_for_each_hash_and_one_for_the_refusal_and_is_counted(
    api: httpx.AsyncClient, ann: dict[str, Any], logs: list[MutableMapping[str, Any]]
) -> None:
    def outcomes() -> Counter[str]:
        names = ("right", "wrong", "throttled")
        values = {
            name: REGISTRY.get_sample_value("muster_credential_attempts_total", {"outcome": name}) for name in names
        }
        return Counter({name: int(value or 0) for name, value in values.items()})

    before = outcomes()
    for _ in range(40):
        await log_in(api, password="a guess")
        await change(api, ann, "a guess")
    await log_in(api, "bob")

    lines = [line for line in logs if line["event"].startswith("credentials.")]
    assert Counter(line["event"] for line in lines) == {"credentials.refused": 21, "credentials.throttled": 2}
    throttled = [line for line in lines if line["event"] == "credentials.throttled"]
    assert {line["seconds"] for line in throttled} == {60}
    assert {line.get("identifier", line.get("user_id")) for line in throttled} == {MARK("ann"), ann["id"]}
    assert outcomes() - before == Counter(wrong=21, throttled=60)
