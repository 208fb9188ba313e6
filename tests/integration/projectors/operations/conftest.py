"""What the tests of operators' commands share."""

from collections.abc import AsyncIterator

import pytest

from chassis.postgres.database import Database
from chassis.settings import Kafka, PostgresAddress, Topics
from tests.integration.muster_processes import environment


@pytest.fixture
def variables(
    kafka: Kafka, topics: Topics, command_database: PostgresAddress, query_database: PostgresAddress
) -> dict[str, str]:
    """The environment of an operator."""
    return environment(kafka, topics, command_database, query_database)


@pytest.fixture
async def command(command_database: PostgresAddress) -> AsyncIterator[Database]:
    """The command database of this test."""
    async with Database.open(command_database, application="tests") as database:
        yield database
