"""The outbox table of Debezium's event router, with a column for each header, and what writes it.

Rows come by INSERT: by COPY many of them share one position of the log, and after a kill the connector lost some.
"""

from collections.abc import Sequence
from typing import Final

import asyncpg

from benchmarks.references.kafka_connect.worker import SLOT, TABLE, column
from benchmarks.relay.backlog import VALUE
from chassis.identifiers import new_id
from events.envelope import HEADER_NAMES, Envelope

_COLUMNS: Final = [column(name) for name in HEADER_NAMES]
_CREATE: Final = f"""
CREATE TABLE {TABLE} (id uuid PRIMARY KEY, aggregatetype text NOT NULL, aggregateid text NOT NULL,
    payload bytea NOT NULL, {", ".join(f"{name} text NOT NULL" for name in _COLUMNS)})
"""
_PLACES: Final = ", ".join(f"${place}" for place in range(1, 5 + len(_COLUMNS)))
_INSERT: Final = f"""
INSERT INTO {TABLE} (id, aggregatetype, aggregateid, payload, {", ".join(_COLUMNS)}) VALUES ({_PLACES})
"""  # noqa: S608 - constants of ours


async def create(connection: asyncpg.Connection) -> None:
    """Make the table, and the publication and the slot that a connector reads it by."""
    await connection.execute(_CREATE)
    await connection.execute(f"CREATE PUBLICATION {SLOT} FOR TABLE {TABLE} WITH (publish = 'insert')")
    await make_slot(connection, "pgoutput")


async def make_slot(connection: asyncpg.Connection, plugin: str) -> None:
    """Make a logical replication slot whose changes an output plugin writes.

    Raises:
        PostgresError: the server does not have the plugin.
    """
    await connection.execute("SELECT pg_create_logical_replication_slot($1, $2)", SLOT, plugin)


async def append(connection: asyncpg.Connection, events: Sequence[Envelope]) -> None:
    """Append events, in the caller's transaction or else in one of their own."""
    await connection.executemany(_INSERT, [_row(event) for event in events])


def _row(event: Envelope) -> tuple[object, ...]:
    # A key of its own: the same event is measured in several rounds, and Debezium leaves rows where they are.
    headers = (value.decode() for _, value in event.headers())
    return new_id(), "user", str(event.subject_id), VALUE, *headers
