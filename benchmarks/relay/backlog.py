"""The events of this benchmark, and a backlog of them in the outbox."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg

from benchmarks.references.kafka.producer import Message
from chassis.identifiers import new_id
from events.envelope import Envelope
from outbox.headers import encode_headers

VALUE: Final = b'{"user":{"id":"0199d0c8-7d5c-7c5e-8a3f-0123456789ab"},"padding":"' + b"x" * 280 + b'"}'
USERS: Final = 5_000
#: Ten million take two minutes.
FILL_SECONDS: Final = 900
COLUMNS: Final = ("event_id", "subject_id", "value", "headers")
_APPEND: Final = f"""
INSERT INTO outbox ({", ".join(COLUMNS)}) VALUES ($1, $2, $3, $4)
"""  # noqa: S608 - constants of ours
_FILL: Final = f"""
INSERT INTO outbox ({", ".join(COLUMNS)})
SELECT id, subject, $1,
    $3::bytea || convert_to(id::text, 'UTF8') || $4::bytea || convert_to(subject::text, 'UTF8') || $5
FROM (SELECT gen_random_uuid() AS id, md5((number % {USERS})::text)::uuid AS subject
    FROM generate_series(0, $2::bigint - 1) AS number) AS made
"""  # noqa: S608 - constants of ours

Row = tuple[UUID, UUID, bytes, bytes]


def envelopes(events: int) -> list[Envelope]:
    """Return the events, in the order in which they are appended."""
    users: list[UUID] = [new_id() for _ in range(USERS)]
    now = datetime.now(UTC)
    return [
        Envelope(
            event_id=new_id(),
            type="muster.user.profile_changed.v1",
            source="/muster/users",
            subject_id=users[number % USERS],
            version=number // USERS + 1,
            time=now,
            correlation_id="benchmark",
            causation_id="benchmark",
        )
        for number in range(events)
    ]


def messages(events: list[Envelope]) -> list[Message]:
    """Return the events as the records that a relay makes of them."""
    return [Message(str(event.subject_id).encode(), VALUE, event.headers()) for event in events]


def row(event: Envelope) -> Row:
    """Return the event as the outbox's columns."""
    return event.event_id, event.subject_id, VALUE, encode_headers(event)


async def append(connection: asyncpg.Connection, event: Envelope) -> None:
    """Append and commit one event."""
    await connection.execute(_APPEND, *row(event))


async def fill(connection: asyncpg.Connection, events: list[Envelope]) -> None:
    """Replace the outbox's content by these events."""
    await connection.execute("TRUNCATE outbox")
    await connection.copy_records_to_table("outbox", records=map(row, events), columns=COLUMNS)
    await settle(connection)


async def fill_many(connection: asyncpg.Connection, events: int) -> None:
    """Make so many events the whole outbox, made by the server."""
    await connection.execute("TRUNCATE outbox")
    await append_many(connection, events)
    await settle(connection)


async def append_many(connection: asyncpg.Connection, events: int) -> None:
    """Append so many events at once, made by the server; their headers are one event's but for both ids."""
    (specimen,) = envelopes(1)
    to_id, _, rest = encode_headers(specimen).partition(str(specimen.event_id).encode())
    to_subject, _, rest = rest.partition(str(specimen.subject_id).encode())
    await connection.execute(_FILL, VALUE, events, to_id, to_subject, rest, timeout=FILL_SECONDS)


async def settle(connection: asyncpg.Connection) -> None:
    """Vacuum and checkpoint, so that neither happens during the measurement."""
    await connection.execute("ANALYZE outbox")
    await connection.execute("CHECKPOINT", timeout=FILL_SECONDS)
