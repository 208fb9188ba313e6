"""Every error is a problem with a page of its own, whoever raises it, and nothing internal leaks."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from chassis.http.api import BODY_BYTES
from chassis.http.problems import COMMON
from chassis.settings import PostgresAddress
from command_api.app import create_app
from command_api.http.dependencies import handlers
from command_api.problems import COMMAND_PROBLEMS
from local_stack.ports import free_port
from tests.integration.command_api.conftest import (
    Connection,
    make_settings,
    problem,
    register,
    registration,
    serving,
)

JSON = {"Content-Type": "application/json"}
BROTLI = {**JSON, "Content-Encoding": "br"}


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "slug"),
    [
        ("GET", "/nowhere", {}, 404, "not-found"),
        ("GET", "/users", {}, 405, "method-not-allowed"),
        ("POST", "/users", {"content": b"{}", "headers": {**JSON, "Accept": "text/html"}}, 406, "not-acceptable"),
        ("POST", "/users", {"content": b"x" * (BODY_BYTES + 1), "headers": JSON}, 413, "payload-too-large"),
        ("POST", "/users", {"content": b"<>", "headers": {"Content-Type": "text/xml"}}, 415, "unsupported-media-type"),
        ("POST", "/users", {"content": b"{}"}, 415, "unsupported-media-type"),
        ("POST", "/users", {"content": b"", "headers": BROTLI}, 415, "unsupported-media-type"),
        ("POST", "/users", {"content": b"{", "headers": JSON}, 400, "malformed-request"),
        ("POST", "/users", {"content": b"\xff{}", "headers": JSON}, 400, "malformed-request"),
        ("POST", "/users", {"content": '{"email":1}'.encode("utf-16"), "headers": JSON}, 400, "malformed-request"),
        ("POST", "/users", {"content": '{"email":1}'.encode("utf-16-be"), "headers": JSON}, 400, "malformed-request"),
        ("POST", "/users", {"content": '{"email":1}'.encode("utf-32"), "headers": JSON}, 400, "malformed-request"),
        ("POST", "/users", {"content": '{"email":1}'.encode("utf-8-sig"), "headers": JSON}, 422, "validation-error"),
        ("POST", "/users", {"content": b"[" * 40_000, "headers": JSON}, 400, "malformed-request"),
        ("POST", "/users", {"content": b"1" * 5000, "headers": JSON}, 400, "malformed-request"),
        ("POST", "/users", {"content": b"[]", "headers": JSON}, 422, "validation-error"),
        ("POST", "/users", {"content": b"NaN", "headers": JSON}, 400, "malformed-request"),
        ("POST", "/users", {"content": b'{"x": Infinity}', "headers": JSON}, 400, "malformed-request"),
        ("POST", "/users", {"content": b'{"\\ud800": 1}', "headers": JSON}, 422, "validation-error"),
        ("POST", "/users?x=1", {"json": registration("ann")}, 422, "validation-error"),
        ("DELETE", "/users/7", {}, 422, "validation-error"),
    ],
)  # fmt: skip
async def test_what_the_framework_refuses_is_a_problem_too(  # noqa: PLR0917 - a row of the table
    api: httpx.AsyncClient, method: str, path: str, sent: dict[str, Any], status: int, slug: str
) -> None:
    answer = await api.request(method, path, **sent)

    document = problem(answer, status, slug)
    assert document["instance"] == path.partition("?")[0]
    assert "Traceback" not in answer.text
    assert "There was an error" not in answer.text


async def test_a_wrong_id_is_named_as_in_every_path(api: httpx.AsyncClient) -> None:
    [wrong] = problem(await api.delete("/users/7"), 422, "validation-error")["errors"]

    assert wrong["parameter"] == "id"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/users", "POST"),
        ("/users/0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3a", "DELETE"),
        # Not of a user whose id is "import".
        ("/users/import", "POST"),
        ("/health", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
    ],
)
async def test_405_names_the_methods_of_every_route_at_the_address(
    api: httpx.AsyncClient, path: str, allowed: str
) -> None:
    refused = await api.request("OPTIONS", path)

    problem(refused, 405, "method-not-allowed")
    assert refused.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("method", "path", "content", "pointer"),
    [
        ("POST", "/users", b'{"email": "a@example.com", "username": "a", "email": "b@example.com"}', "#/email"),
        (
            "PATCH",
            "/users/0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3a/profile",
            b'{"attributes": {"a": {"b": 1, "b": 2}}}',
            "#/attributes/a/b",
        ),
        (
            "POST",
            "/users/import",
            b'{"email": "a@example.com", "attributes": {"a/b": 1, "a/b": 2}}',
            "#/attributes/a~1b",
        ),
    ],
)
async def test_a_member_that_comes_twice_is_named(
    api: httpx.AsyncClient, method: str, path: str, content: bytes, pointer: str
) -> None:
    headers = {"Content-Type": "application/x-ndjson"} if "import" in path else JSON
    answer = await api.request(method, path, content=content, headers=headers)

    explained = json.loads(answer.text.partition("\n")[0])
    explained = explained.get("problem", explained)
    assert (explained["type"], explained["status"]) == ("/problems/validation-error", 422)
    assert explained["errors"] == [{"detail": "comes twice; give it once", "pointer": pointer}]


async def test_a_body_of_unknown_length_is_cut_off_at_the_limit(api: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(BODY_BYTES // 1024 + 1):
            yield b" " * 1024

    problem(await api.post("/users", content=endless(), headers=JSON), 413, "payload-too-large")


async def test_every_wrong_field_is_named_with_its_limit(api: httpx.AsyncClient) -> None:
    answer = await api.post("/users", json={"email": "x", "username": "a b", "password": "short", "x": 1})

    errors = {error["pointer"]: error["detail"] for error in problem(answer, 422, "validation-error")["errors"]}
    assert set(errors) == {"#/email", "#/username", "#/password", "#/x"}
    assert "8 to 1024" in errors["#/password"]


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("POST", "/users", b"[]"),
        ("PATCH", "/users/0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3a/profile", b'{"attributes": [1]}'),
        ("POST", "/users/import", b"[1]"),
        ("POST", "/users/import", b'["\\ud800"]'),
    ],
)
async def test_what_is_no_object_is_said_in_the_words_of_json(
    api: httpx.AsyncClient, method: str, path: str, content: bytes
) -> None:
    headers = {"Content-Type": "application/x-ndjson"} if "import" in path else JSON
    answer = await api.request(method, path, content=content, headers=headers)

    assert "must be a JSON object" in answer.text
    assert "dict" not in answer.text


async def test_every_problem_type_has_a_page_that_says_what_to_do(api: httpx.AsyncClient) -> None:
    index = (await api.get("/problems/")).text
    for kind in (*COMMON, *COMMAND_PROBLEMS):
        page = await api.get(kind.uri)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert "What to do" in page.text
        assert kind.uri in index
    problem(await api.get("/problems/unheard-of"), 404, "not-found")


async def test_a_bug_is_a_500_without_its_cause(app: FastAPI, database: Connection, logs: list[Any]) -> None:
    """With a dependency put in place of ours, as FastAPI has it for tests."""

    class Broken:
        async def register(self, *_: object) -> None:
            raise RuntimeError("the cause, with secrets")

    app.dependency_overrides[handlers] = Broken
    async with serving(app) as api:
        answer = await api.post("/users", json=registration("ann"), headers={"X-Request-Id": "find-me"})

    problem(answer, 500, "internal-error")
    assert "secrets" not in answer.text
    assert answer.headers["x-request-id"] == "find-me"
    assert any(entry["event"] == "http.unexpected_error" for entry in logs)


async def test_a_full_queue_of_passwords_is_busy(command_database: PostgresAddress) -> None:
    settings = make_settings(command_database, HASHING_THREADS=1, HASHING_QUEUE=0, ARGON2_MEMORY_KIB=19 * 1024)
    async with serving(create_app(settings)) as api:
        answers = await asyncio.gather(*(api.post("/users", json=registration(f"user{n}")) for n in range(5)))

    refused = [answer for answer in answers if answer.status_code != 201]
    assert len(refused) == 4
    for answer in refused:
        problem(answer, 503, "busy")
        assert answer.headers["retry-after"] == "1"


async def test_without_its_database_it_lives_and_says_so(command_database: PostgresAddress) -> None:
    settings = make_settings(replace(command_database, port=free_port()))
    async with serving(create_app(settings)) as api:
        answer = await api.put(f"/users/{uuid4()}/username", json={"username": "ann"})
        ready, alive = await api.get("/readyz"), await api.get("/livez")

    address = settings.command_database
    inside = (address.server, str(address.port), address.database, address.user)
    assert not [word for word in inside for said in (answer, ready, alive) if word in said.text]
    problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert (ready.status_code, alive.status_code) == (503, 200)


async def test_ready_depends_on_the_database_and_the_issuers_keys_alone(app: FastAPI, api: httpx.AsyncClient) -> None:
    await register(api, "ann")  # which waits for the keys

    assert await app.state.health.look("ready") == {"database": "ok", "issuer": "ok"}


async def test_a_registration_survives_a_database_that_restarts_its_connections(
    api: httpx.AsyncClient, database: Connection
) -> None:
    await register(api, "ann")
    await database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    answers = [await api.post("/users", json=registration(f"user{n}")) for n in range(3)]

    assert answers[-1].status_code == 201
    assert {answer.status_code for answer in answers} <= {201, 503}
