"""What commands say when a server cannot do what they ask: which one it is, and what to do."""

from __future__ import annotations

from typing import Final, NoReturn

import asyncpg
from aiokafka.errors import UnknownTopicOrPartitionError

from chassis.kafka.client import KAFKA_ERRORS
from chassis.postgres.database import DatabaseUnavailableError, describe
from cli.output import fail

DATABASE_OUTAGES: Final[tuple[type[Exception], ...]] = (DatabaseUnavailableError, asyncpg.PostgresError)
OUTAGES: Final[tuple[type[Exception], ...]] = (*DATABASE_OUTAGES, *KAFKA_ERRORS)

#: What a database says that no migration, or an older one, has been at.
_NOT_MIGRATED: Final = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)


def explain_outage(error: Exception) -> NoReturn:
    """Say it in one line and end with exit code 1."""
    reason = describe(error)
    match error:
        case DatabaseUnavailableError():
            fail(f"A database does not answer: {reason}")
        case asyncpg.PostgresError() if isinstance(error, _NOT_MIGRATED):
            fail(f"A database is not migrated ({reason}): run `muster migrate all`.")
        case asyncpg.PostgresError():
            fail(f"PostgreSQL does not do it: {reason}")
        case UnknownTopicOrPartitionError():
            fail(f"Kafka has no such topic ({reason}): run `muster topics`.")
        case TimeoutError():
            fail("Kafka does not answer in time.")
        case _:
            fail(f"Kafka does not answer: {reason}")
