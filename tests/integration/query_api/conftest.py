"""The query API inside the test's own loop, over read tables that the projectors' own writers fill."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from chassis.postgres.database import connect, disconnect
from chassis.postgres.roles import QUERY
from chassis.settings import PostgresAddress
from query_api.app import create_app
from query_api.settings import QueryApiSettings
from tests.databases import as_role
from tests.integration.query_api.read_side import ReadSide
from tests.issuing import auth, bearer
from tests.waiting import until

CURSOR_KEYS = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"


def make_settings(address: PostgresAddress, **more: Any) -> QueryApiSettings:
    """Settings for a database; more are given by their variables' names."""
    address = as_role(address, QUERY)
    values: dict[str, Any] = {
        "QUERY_POSTGRES_USER": address.user,
        "QUERY_POSTGRES_PASSWORD": address.password.get_secret_value(),
        "QUERY_POSTGRES_SERVER": address.server,
        "QUERY_POSTGRES_PORT": address.port,
        "QUERY_POSTGRES_DB": address.database,
        "QUERY_POSTGRES_POOL_SIZE": 4,
        "QUERY_POSTGRES_MAX_OVERFLOW": 0,
        "CURSOR_KEYS": CURSOR_KEYS,
        **auth(),
        **more,
    }
    return QueryApiSettings(_env_file=None, **values)


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app, ready, while its lifespan lasts."""
    async with app.router.lifespan_context(app), client_of(app) as client:
        await until(lambda: is_ready(client), within=10, what="the query API is ready")
        yield client


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """An operator's client, which shows an error of the app as the answer that a real client would get."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://query", headers=bearer(), timeout=30)


async def is_ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200


@pytest.fixture
def settings(query_database: PostgresAddress) -> QueryApiSettings:
    return make_settings(query_database)


@pytest.fixture
def app(settings: QueryApiSettings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app) as client:
        yield client


@pytest.fixture
async def read_side(query_database: PostgresAddress) -> AsyncIterator[ReadSide]:
    """What a projectors process would write, under the test's control."""
    connection = await connect(query_database, application="test")
    # Tables and views that a test makes itself, in the place of a generation's.
    await connection.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {QUERY}")
    try:
        yield ReadSide(connection)
    finally:
        await disconnect(connection)
