"""POST /users/import: each line by itself, harmless when repeated, and never half a batch."""

import asyncio
import gzip
import json
from codecs import BOM_UTF8
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import bcrypt
import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from command_api.http import imports as routes
from command_api.imports.handlers import ImportHandlers, ImportSummary, LineResult
from command_api.imports.lines import IMPORT_BYTES
from command_api.imports.places import Places
from command_api.users.context import Cause
from events.user_events import USER_EVENTS
from tests.envelopes import envelope_of
from tests.integration.command_api.conftest import Connection, problem, register, registration
from tests.integration.command_api.imports.sent_lines import HASH, HEADERS, body_of, line, request_of, send
from tests.issuing import bearer
from tests.unit.chassis.transport.serving import listening
from tests.waiting import until


async def test_each_line_is_answered_in_order_and_the_summary_comes_last(
    api: httpx.AsyncClient, database: Connection
) -> None:
    results = await send(api, line("ann"), line("bob", display_name="Bob", attributes={"a": 1}))

    assert [(result["line"], result["status"]) for result in results[:2]] == [(1, "created"), (2, "created")]
    assert results[2] == {"complete": True, "created": 2, "unchanged": 0, "failed": 0}
    row = await database.fetchrow("SELECT * FROM users WHERE username = 'bob'")
    event = await database.fetchrow("SELECT * FROM outbox WHERE subject_id = $1", results[1]["id"])
    assert row is not None
    assert event is not None
    assert (row["email_key"], row["event_id"]) == ("bob@example.com", event["event_id"])
    # By which it is known as imported.
    assert row["password_hash"] == f"argon2{HASH}"
    envelope = envelope_of(event["headers"])
    assert (envelope.type, envelope.version) == ("muster.user.registered.v1", 1)
    assert (envelope.event_id, envelope.subject_id) == (event["event_id"], event["subject_id"])
    published = json.loads(event["value"])
    assert published["user"]["attributes"] == json.loads(row["attributes"]) == {"a": 1}
    assert published["user"]["id"] == results[1]["id"]


async def test_whatever_json_can_say_is_stored_and_published_as_it_came(
    api: httpx.AsyncClient, database: Connection
) -> None:
    name = 'Tab\t "quoted" back\\slash \x1f Zoë 😀'
    attributes = {"whole": 10**30, "float": 1e300, 'k"ey': [None, True, {"\u2028": "\x7f"}], "empty": {}}

    await send(api, line("zoë", display_name=name, attributes=attributes), line("ann", display_name=None))

    row = await database.fetchrow("SELECT * FROM users WHERE username = 'zoë'")
    assert row is not None
    assert (row["email"], row["display_name"], json.loads(row["attributes"])) == ("zoë@example.com", name, attributes)
    value = await database.fetchval("SELECT value FROM outbox WHERE subject_id = $1", row["id"])
    user = json.loads(value)["user"]
    assert (user["username"], user["display_name"], user["attributes"]) == ("zoë", name, attributes)
    assert USER_EVENTS.encode(USER_EVENTS.decode("muster.user.registered.v1", value)) == value
    assert await database.fetchval("SELECT display_name IS NULL FROM users WHERE username = 'ann'")


async def test_an_imported_user_is_a_user_like_any_other(api: httpx.AsyncClient) -> None:
    [created, _] = await send(api, line("ann"))
    url = f"/users/{created['id']}/password"

    wrong = await api.put(url, json={"password": "another one", "current_password": "wrong horse"})
    right = await api.put(url, json={"password": "another one", "current_password": "correct horse"})

    assert (wrong.status_code, right.status_code, right.headers["etag"]) == (403, 204, '"2"')


async def test_plain_passwords_are_hashed(api: httpx.AsyncClient, database: Connection) -> None:
    await send(api, *(registration(f"user{number}") for number in range(5)))

    hashes = await database.fetch("SELECT password_hash FROM users")
    assert len({row["password_hash"] for row in hashes}) == 5
    assert all(row["password_hash"].startswith("$argon2id$") for row in hashes)


async def test_an_empty_hash_is_a_bad_line_like_any_other(api: httpx.AsyncClient) -> None:
    results = await send(api, line("ann"), line("bob", password_hash=""), line("eve"))

    assert [result["status"] for result in results[:3]] == ["created", "failed", "created"]
    assert results[3] == {"complete": True, "created": 2, "unchanged": 0, "failed": 1}


async def import_with_bcrypt(api: httpx.AsyncClient, password: bytes) -> str:
    """Import somebody who has this password, and give where it is changed."""
    hashed = bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()
    [created, _] = await send(api, line("ann", password_hash=hashed))
    return f"/users/{created['id']}/password"


async def test_an_imported_bcrypt_hash_can_be_checked(api: httpx.AsyncClient) -> None:
    url = await import_with_bcrypt(api, b"correct horse")

    wrong = await api.put(url, json={"password": "another one", "current_password": "wrong horse"})
    right = await api.put(url, json={"password": "another one", "current_password": "correct horse"})

    assert (wrong.status_code, right.status_code) == (403, 204)


async def test_an_imported_password_may_be_shorter_than_any_that_can_be_chosen_here(api: httpx.AsyncClient) -> None:
    url = await import_with_bcrypt(api, b"1234")

    short = await api.put(url, json={"password": "4321", "current_password": "1234"})
    empty = await api.put(url, json={"password": "another one", "current_password": ""})
    right = await api.put(url, json={"password": "another one", "current_password": "1234"})

    for refused, field in ((short, "password"), (empty, "current_password")):
        [wrong] = problem(refused, 422, "validation-error")["errors"]
        assert wrong["pointer"] == f"#/{field}"
    assert right.status_code == 204


async def test_a_bad_line_fails_alone(api: httpx.AsyncClient, database: Connection) -> None:
    await register(api, "taken")
    bad: list[tuple[dict[str, Any] | bytes, str]] = [
        (b"{", "malformed-request"),
        (b'{"email": "\xff"}', "malformed-request"),
        (line("x"), "validation-error"),
        (line("nohash", password_hash="md5"), "validation-error"),
        (line("both", password="correct horse"), "validation-error"),
        ({"email": "none@example.com", "username": "none"}, "validation-error"),
        (line("badid", id="0192f0c1-7a3e-4c4e-9d53-0a6f1d1c2b3a"), "validation-error"),
        (line("TAKEN", username="free"), "email-taken"),
        (line("free2", username="Taken"), "username-taken"),
        (line("first", username="other"), "email-taken"),
        (line("extra", admin=True), "validation-error"),
        (b'{"email":"nul@example.com","username":"nul","password":"a\\u0000aaaaaaa"}', "validation-error"),
        (line("deep", attributes={"a": {"b": {"c": {"d": {"e": {}}}}}}), "validation-error"),
        (json.dumps(line("long", display_name="x" * 70_000)).encode(), "malformed-request"),
        (json.dumps(line("half", display_name="\ud800")).encode(), "validation-error"),
        (b"[" * 60_000, "malformed-request"),
    ]

    results = await send(api, line("first"), *(item for item, _ in bad), line("last"))

    assert [result["status"] for result in results[:-1]] == ["created", *["failed"] * len(bad), "created"]
    assert [result["problem"]["type"] for result in results[1:-2]] == [f"/problems/{slug}" for _, slug in bad]
    assert results[-1] == {"complete": True, "created": 2, "unchanged": 0, "failed": len(bad)}
    assert await database.fetchval("SELECT count(*) FROM users") == 3
    assert await database.fetchval("SELECT count(*) FROM outbox") == 3
    [wrong] = results[3]["problem"]["errors"]
    assert wrong["pointer"] == "#/username"
    [too_long] = [result["problem"]["detail"] for result in results[1:-2] if "65536" in result["problem"]["detail"]]
    assert "store less in its attributes" in too_long


async def test_thousands_of_mistakes_are_counted_and_the_first_twenty_listed(api: httpx.AsyncClient) -> None:
    unknown = {f"unknown{number}": 1 for number in range(2999)} | {"x" * 10_000: 1}

    [result, _] = await send(api, {**line("ann"), **unknown})
    answer = await api.post("/users", json={**registration("ann"), **unknown})

    for document in (result["problem"], answer.json()):
        assert len(document["errors"]) == 20
        assert "(and 2999 more)" in document["detail"]
    assert len(answer.content) < 4000


async def test_a_byte_order_mark_before_the_first_line_is_passed_over(api: httpx.AsyncClient) -> None:
    results = await send(api, BOM_UTF8 + json.dumps(line("ann")).encode(), BOM_UTF8 + json.dumps(line("bob")).encode())

    assert [result.get("status") for result in results] == ["created", "failed", None]
    assert results[1]["problem"]["detail"].startswith("is not JSON: Unexpected UTF-8 BOM")


async def test_empty_lines_are_passed_over_but_counted(api: httpx.AsyncClient) -> None:
    results = await send(api, b"", line("ann"), b"  ", line("bob"), b"")

    assert [result.get("line") for result in results] == [2, 4, None]


async def test_an_empty_body_has_an_empty_summary(api: httpx.AsyncClient) -> None:
    answer = await api.post("/users/import", content=b"", headers=HEADERS)

    assert answer.json() == {"complete": True, "created": 0, "unchanged": 0, "failed": 0}


async def test_fifty_thousand_lines_with_one_in_a_hundred_bad(api: httpx.AsyncClient, database: Connection) -> None:
    total = {"created": 0, "unchanged": 0, "failed": 0}
    for start in range(0, 50_000, 10_000):
        numbers = range(start, start + 10_000)
        results = await send(api, *(line(f"user{n}") if n % 100 else line("x") for n in numbers))
        assert len(results) == 10_001
        for name in total:
            total[name] += results[-1][name]

    assert total == {"created": 49_500, "unchanged": 0, "failed": 500}
    assert await database.fetchval("SELECT count(*) FROM users") == 49_500
    assert await database.fetchval("SELECT count(DISTINCT event_id) FROM outbox") == 49_500


class Hasher:
    """Hashes the passwords of the second batch, of lines 501 to 1,000, only when it may, or fails to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.batches = 0
        self.may_go_on = asyncio.Event()
        self.was_cancelled = False

    async def hash_all(self, given: Sequence[SecretStr]) -> list[str]:
        self.batches += 1
        if self.batches == 2:
            try:
                await self.may_go_on.wait()
            except asyncio.CancelledError:
                self.was_cancelled = True
                raise
            if self.error:
                raise self.error
        return [HASH] * len(given)


TWO_BATCHES = body_of(registration(f"user{number}") for number in range(1000))


def importing(app: FastAPI, hasher: Hasher) -> AsyncGenerator[list[LineResult] | ImportSummary]:
    imports: ImportHandlers = replace(app.state.resources.imports, passwords=hasher)
    return imports.run(TWO_BATCHES, Cause(command_id="test", correlation_id="test"))


async def first_part(results: AsyncGenerator[list[LineResult] | ImportSummary]) -> list[dict[str, Any]]:
    async with asyncio.timeout(10):
        return as_sent(await anext(results))


def as_sent(part: list[LineResult] | ImportSummary) -> list[dict[str, Any]]:
    return [json.loads(item) for item in b"".join(routes.encode(part)).splitlines()]


@pytest.mark.usefixtures("api")
async def test_a_batch_is_answered_while_the_next_one_is_hashed(app: FastAPI, database: Connection) -> None:
    hasher = Hasher()
    results = importing(app, hasher)

    first = await first_part(results)
    there = await database.fetchval("SELECT count(*) FROM users")
    hasher.may_go_on.set()
    rest = [item for part in [part async for part in results] for item in as_sent(part)]

    assert [result["line"] for result in first] == list(range(1, 501))
    assert there == 500
    assert [result["line"] for result in rest[:-1]] == list(range(501, 1001))
    assert rest[-1] == {"complete": True, "created": 1000, "unchanged": 0, "failed": 0}


@pytest.mark.usefixtures("api")
async def test_a_batch_is_answered_though_the_next_one_cannot_be_prepared(app: FastAPI, database: Connection) -> None:
    hasher = Hasher(MemoryError("no room for a hash"))
    hasher.may_go_on.set()
    results = importing(app, hasher)

    first = await first_part(results)
    with pytest.raises(MemoryError, match="no room"):
        await anext(results)

    assert [result["status"] for result in first] == ["created"] * 500
    assert await database.fetchval("SELECT count(*) FROM users") == 500


@pytest.mark.usefixtures("api")
async def test_an_import_that_nobody_listens_to_any_more_hashes_no_further(app: FastAPI) -> None:
    hasher = Hasher()
    results = importing(app, hasher)
    await first_part(results)
    await until(has_begun(hasher), within=5, what="the second batch is being hashed")

    await results.aclose()

    assert hasher.was_cancelled


def has_begun(hasher: Hasher) -> Callable[[], Awaitable[bool]]:
    async def begun() -> bool:
        return hasher.batches == 2

    return begun


async def test_too_many_lines_or_bytes_are_refused_whole(api: httpx.AsyncClient, database: Connection) -> None:
    many = await api.post("/users/import", content=b"{}\n" * 10_001, headers=HEADERS)
    much = await api.post("/users/import", content=b" " * (IMPORT_BYTES + 1), headers=HEADERS)

    problem(many, 413, "payload-too-large")
    problem(much, 413, "payload-too-large")
    assert await database.fetchval("SELECT count(*) FROM users") == 0


async def test_other_media_types_are_refused(api: httpx.AsyncClient) -> None:
    refused = await api.post("/users/import", json=[line("ann")])
    picky = await api.post("/users/import", content=b"", headers={**HEADERS, "Accept": "text/html"})
    compressed = await api.post(
        "/users/import", content=gzip.compress(body_of([line("ann")])), headers={**HEADERS, "Content-Encoding": "gzip"}
    )

    problem(refused, 415, "unsupported-media-type")
    problem(compressed, 415, "unsupported-media-type")
    assert compressed.headers["accept-encoding"] == "identity"
    problem(picky, 406, "not-acceptable")


async def test_a_third_import_at_once_is_told_to_come_back(api: httpx.AsyncClient, app: FastAPI) -> None:
    places = app.state.resources.imports.places
    with places.for_run("one"), places.for_run("another"):
        answer = await api.post("/users/import", content=body_of([line("ann")]), headers=HEADERS)

    problem(answer, 503, "busy")
    assert answer.headers["retry-after"] == "1"


async def test_an_import_that_is_refused_has_not_been_read(api: httpx.AsyncClient, app: FastAPI) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield body_of([line("ann")])

    places = app.state.resources.imports.places
    with places.for_run("one"), places.for_run("another"):
        problem(await api.post("/users/import", content=body(), headers=HEADERS), 503, "busy")

    assert not read


async def test_of_one_caller_fewer_run_than_there_are_places(api: httpx.AsyncClient, app: FastAPI) -> None:
    places = app.state.resources.imports.places
    [mine] = await callers_of(api, places)
    with places.for_run("another"):
        others = await send(api, line("ann"))
    with places.for_run(mine):
        refused = await api.post("/users/import", content=body_of([line("ben")]), headers=HEADERS)

    assert [result["status"] for result in others[:-1]] == ["created"]
    problem(refused, 503, "busy")
    assert "of yours" in refused.json()["detail"]
    assert not places.runs


async def callers_of(api: httpx.AsyncClient, places: Places) -> set[str]:
    """What the places call the one whose client this is."""
    seen = set[str]()

    async def body() -> AsyncIterator[bytes]:
        yield b"\n"
        seen.update(body.caller for body in places.bodies)
        yield b"\n"

    await api.post("/users/import", content=body(), headers=HEADERS)
    return seen


async def test_who_leaves_in_the_midst_of_an_answer_ends_the_import_and_is_no_error(
    app: FastAPI, logs: list[Any]
) -> None:
    body = body_of([line(f"ann{number}") for number in range(3000)])
    asked = b"POST /users/import HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nAuthorization: %b\r\n"
    head = asked % bearer()["Authorization"].encode() + b"Content-Length: %d\r\n\r\n" % len(body)
    async with app.router.lifespan_context(app), listening(app) as listener:
        async with await listener.connect() as client:
            await client.send(head + body)
            assert b" 200 " in await client.reader.readline()

        async def is_over() -> bool:
            return not listener.state.tasks

        await until(is_over, within=30, what="the import has ended")

    assert [entry for entry in logs if entry["log_level"] in {"error", "critical"}] == []
    assert not app.state.resources.imports.places.bodies


async def test_an_import_does_not_hold_its_place_for_a_client_that_does_not_read(
    app: FastAPI, database: Connection, logs: list[Any]
) -> None:
    # Each line is refused with twenty errors: more answer than all buffers on the way hold.
    wrong = json.dumps({f"unknown{number}": 1 for number in range(20)}).encode() + b"\n"
    good = body_of([line("ann"), line("ben")])
    async with app.router.lifespan_context(app), listening(app) as listener:
        places = app.state.resources.imports.places
        places.answer_seconds = 0.5
        async with await listener.connect(receive_buffer=4096) as lazy, await listener.connect() as other:
            lazy.writer.transport.pause_reading()  # type: ignore[attr-defined] # of reading transports
            await lazy.send(request_of(wrong * 10_000, "lazy"))

            async def runs() -> bool:
                return bool(places.runs)

            await until(runs, within=30, what="the import runs")
            # One that does not read keeps another caller out for no moment, and its own place for as long as it may.
            answer = await other.asks(request_of(good, "other", b"Connection: close\r\n"))
            refused = await listener.answer_to(request_of(good, "lazy"))

            async def is_over() -> bool:
                return not places.runs and not places.bodies

            await until(is_over, within=30, what="the import has ended")

    assert answer.status == 200
    assert await database.fetchval("SELECT count(*) FROM users") == 2
    assert (refused.status, refused.problem) == (503, "busy")
    assert len([entry for entry in logs if entry["event"] == "import.cut_off"]) == 1
    assert [entry for entry in logs if entry["log_level"] in {"error", "critical"}] == []


@pytest.mark.parametrize("event", ["import.complete"])
async def test_the_log_says_how_many_and_not_who(api: httpx.AsyncClient, logs: list[Any], event: str) -> None:
    await send(api, line("canary"))

    [entry] = [entry for entry in logs if entry["event"] == event]
    assert (entry["created"], entry["failed"]) == (1, 0)
    assert "canary" not in json.dumps(logs, default=str)
