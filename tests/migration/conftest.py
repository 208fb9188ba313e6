"""Databases without any table: migrations are what is tested here."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from chassis.settings import PostgresAddress
from tests.conftest import create_database, database_address, drop_database
from tests.infrastructure import Servers


@pytest.fixture
async def empty_database(servers: Servers) -> AsyncIterator[PostgresAddress]:
    name = f"empty_{uuid4().hex[:12]}"
    await create_database(servers, name, "template1")
    yield database_address(servers, name)
    await drop_database(servers, name)
