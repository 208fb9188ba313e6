"""The command API inside the test's own loop, on a database of its own, with cheap hashes."""

from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest
import structlog
from fastapi import FastAPI

from chassis.postgres.database import connect, disconnect
from chassis.postgres.roles import COMMAND
from chassis.settings import PostgresAddress
from command_api.app import create_app
from command_api.settings import CommandApiSettings
from tests.databases import as_role
from tests.issuing import auth, bearer
from tests.waiting import until

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

SECRET = "a secret of thirty-two characters"
#: Argon2's least: tests are about what surrounds the hash.
CHEAP_HASH = {"ARGON2_MEMORY_KIB": 8, "ARGON2_TIME_COST": 1, "ARGON2_PARALLELISM": 1}


def make_settings(address: PostgresAddress, **more: Any) -> CommandApiSettings:
    """Settings for a database; more are given by their variables' names."""
    address = as_role(address, COMMAND)
    values = {
        "COMMAND_POSTGRES_USER": address.user,
        "COMMAND_POSTGRES_PASSWORD": address.password.get_secret_value(),
        "COMMAND_POSTGRES_SERVER": address.server,
        "COMMAND_POSTGRES_PORT": address.port,
        "COMMAND_POSTGRES_DB": address.database,
        "IDEMPOTENCY_SECRET": SECRET,
        "CREDENTIALS_SECRETS": SECRET,
        "PUBLIC_QUERY_URL": "http://query.example.com",
        **CHEAP_HASH,
        **auth(),
        **more,
    }
    return CommandApiSettings(_env_file=None, **values)


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app while its lifespan lasts."""
    async with app.router.lifespan_context(app), client_of(app) as client:
        yield client


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """An operator's client, which shows an error of the app as the answer that a real client would get."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://command", headers=bearer())


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged, as it was said."""
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def settings(command_database: PostgresAddress) -> CommandApiSettings:
    return make_settings(command_database)


@pytest.fixture
async def app(settings: CommandApiSettings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app) as client:
        yield client


@pytest.fixture
async def database(command_database: PostgresAddress) -> AsyncIterator[Connection]:
    """What is really there, seen from outside the app."""
    connection = await connect(command_database, application="test")
    try:
        yield connection
    finally:
        await disconnect(connection)


@pytest.fixture
async def ann(api: httpx.AsyncClient) -> dict[str, Any]:
    """A registered user."""
    return await register(api, "ann")


async def register(api: httpx.AsyncClient, name: str, **more: Any) -> dict[str, Any]:
    """Register a user and return what was answered."""
    answer = await api.post("/users", json=registration(name, **more))
    assert answer.status_code == 201, answer.text
    user: dict[str, Any] = answer.json()
    return user


def registration(name: str, **more: Any) -> dict[str, Any]:
    """A body of POST /users."""
    return {"email": f"{name}@example.com", "username": name, "password": f"{name}'s password", **more}


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Assert that the answer is this problem, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"/problems/{slug}"
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


async def until_somebody_waits(database: Connection) -> None:
    """Wait until another session waits for a lock."""

    async def waits() -> bool:
        return bool(await database.fetchval(_WAITING))

    await until(waits, within=5, what="somebody waits for the lock")


_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
