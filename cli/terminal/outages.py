"""The message and exit code when a server fails a command: which server it was, and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, TypeVar

import asyncpg
from aiokafka.errors import InvalidPartitionsError, UnknownTopicOrPartitionError

from chassis.kafka.client import KAFKA_ERRORS
from chassis.kafka.refusals import REFUSALS, explain
from chassis.postgres.database import Database, DatabaseUnavailableError, describe
from chassis.settings import PostgresAddress
from cli.terminal.output import fail

T = TypeVar("T")

DATABASE_OUTAGES: Final[tuple[type[Exception], ...]] = (DatabaseUnavailableError, asyncpg.PostgresError)
OUTAGES: Final[tuple[type[Exception], ...]] = (*DATABASE_OUTAGES, *KAFKA_ERRORS)

#: Errors of a database that has not been migrated, or not to this version.
_NOT_MIGRATED: Final = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)


def with_database(
    address: PostgresAddress,
    work: Callable[[Database], Awaitable[T]],
    *,
    application: str,
    refusals: tuple[type[Exception], ...],
) -> T:
    """Run `work` with a database; a refusal or an outage ends the command with a message."""

    async def main() -> T:
        async with Database.open(address, application=application) as database:
            return await work(database)

    try:
        return asyncio.run(main())
    except refusals as error:
        fail(str(error))
    except OUTAGES as error:
        explain_outage(error)


def explain_outage(error: Exception) -> NoReturn:
    """Print one line about the outage and end with exit code 1."""
    reason = describe(error)
    match error:
        case DatabaseUnavailableError():
            fail(f"A database does not answer: {reason}")
        case asyncpg.PostgresError() if isinstance(error, _NOT_MIGRATED):
            fail(f"A database is not migrated ({reason}): run `muster migrate all`.")
        case asyncpg.PostgresError():
            fail(f"PostgreSQL refused: {reason}")
        case UnknownTopicOrPartitionError():
            fail(f"Kafka has no such topic ({reason}): run `muster topics`.")
        case InvalidPartitionsError():
            fail(f"The settings do not fit: {error.args[0]}.")
        case _ if isinstance(error, REFUSALS):
            fail(f"Kafka refuses: {explain(error)}.")
        case TimeoutError():
            fail("Kafka does not answer in time.")
        case _:
            fail(f"Kafka does not answer: {reason}")
