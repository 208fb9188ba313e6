"""The ways out for an operator with a row that cannot be published: set it aside, then put it back or drop it.

Whatever is dropped leaves a version that no subscriber would ever see. So a snapshot of the user as of that very
version takes its place, and versions stay gapless and in order. Of an erased user nothing comes back but the tombstone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic_core import from_json, to_json

from chassis.postgres.database import Connection
from command_api.republication import Operation, OutboxMessage, snapshot, tombstone
from command_api.users.rows import PUBLIC_COLUMNS, public_user
from events.envelope import EnvelopeError, read_envelope
from events.times import rfc3339
from events.user_events import USER_EVENTS, ChangeEvent, PublicUser, UserErased, UserSnapshot
from outbox import set_aside as rows
from outbox.headers import decode_headers

# FOR SHARE: no command appends behind the row until the snapshot is in its place.
_USER: Final = f"""
SELECT {", ".join(PUBLIC_COLUMNS)}, event_id FROM users WHERE id = $1 FOR SHARE
"""  # noqa: S608 - names of columns
_ERASURE: Final = "SELECT version, event_id, erased_at FROM erased_users WHERE id = $1"


class RowRefusedError(Exception):
    """An operator's request cannot be done with this row; the message says why, and what can."""


async def set_aside(connection: Connection, number: int) -> bool:
    """Set aside a row that the relay has named; False: it was deleted instead, because its user has been erased.

    Raises:
        RowRefusedError: there is no such row, it waits for nobody, or it is not known to be damaged.
    """
    async with connection.transaction():
        row = await find(connection, number)
        _refuse_to_set_aside(row)
        # An erasure waits for this lock, and then finds what is set aside.
        await connection.execute(_USER, row["subject_id"])
        erased = await _is_past_erasure(connection, row)
        if not await (rows.delete_named if erased else rows.set_aside)(connection, number):
            raise _gone(number)
    return not erased


def _refuse_to_set_aside(row: Any) -> None:
    number = row["id"]
    if row["set_aside_at"] is not None:
        raise RowRefusedError(f"Row {number} is set aside already.")
    if row["damage"] is None:
        raise RowRefusedError(
            f"Row {number} can still be published: a relay that cannot names it, within a second of reading it."
        )
    if row["subject_id"] is None:
        raise RowRefusedError(
            f"Row {number} names no user, so nobody's later events would wait for it: give it its subject_id first."
        )


async def put_back(connection: Connection, number: int) -> None:
    """Put a row that was set aside back, byte for byte; its user's later events then follow it.

    Raises:
        RowRefusedError: it is not set aside, or its user has been erased.
    """
    async with connection.transaction():
        await _find_set_aside(connection, number)
        if not await rows.put_back(connection, number):
            raise _gone(number)


async def drop(connection: Connection, number: int, operation: Operation) -> OutboxMessage:
    """Put a snapshot of its own version in the place of a row that was set aside; an erasure's row gets a tombstone.

    Raises:
        RowRefusedError: it is not set aside, an earlier row of its user is damaged, or its user has been erased.
    """
    async with connection.transaction():
        row = await _find_set_aside(connection, number)
        await _refuse_before_its_turn(connection, row)
        message = await _successor(connection, row, operation)
        if not await rows.replace(connection, number, message):
            raise _gone(number)
    return message


async def find(connection: Connection, number: int) -> Any:
    """The row with this id, in the outbox or set aside.

    Raises:
        RowRefusedError: there is none (any more).
    """
    row = await rows.find_row(connection, number)
    if row is None:
        raise _gone(number)
    return row


async def _find_set_aside(connection: Connection, number: int) -> Any:
    """The row, of whose user no command commits anything until the caller's transaction ends."""
    row = await find(connection, number)
    if row["set_aside_at"] is None:
        raise RowRefusedError(f"Row {number} is not set aside: `muster outbox set-aside {number}` does that.")
    # An erasure that has begun is waited for, and then seen; a later one finds what is done here.
    await connection.execute(_USER, row["subject_id"])
    if await _is_past_erasure(connection, row):
        raise RowRefusedError(f"The user of row {number} has been erased: nothing of them is published any more.")
    return row


async def _is_past_erasure(connection: Connection, row: Any) -> bool:
    """True where the row is of an erased user, and not the erasure itself, which has to be published."""
    erasure = await connection.fetchrow(_ERASURE, row["subject_id"])
    return erasure is not None and row["event_id"] != erasure["event_id"]


async def _refuse_before_its_turn(connection: Connection, row: Any) -> None:
    """A version that cannot be read is counted back from those behind it, and a snapshot there counts as none."""
    first = await rows.held_before(connection, row["subject_id"], row["id"])
    if first is not None:
        raise RowRefusedError(
            f"Row {row['id']} waits behind row {first} of the same user: set aside, put back or drop that one first"
            f" (`muster outbox show {first}`)."
        )


def _gone(number: int) -> RowRefusedError:
    return RowRefusedError(
        f"There is no row {number}: it was published, put back or dropped, or its user has been erased."
    )


async def _successor(connection: Connection, row: Any, operation: Operation) -> OutboxMessage:
    subject: UUID = row["subject_id"]
    present = await connection.fetchrow(_USER, subject)
    erasure = await connection.fetchrow(_ERASURE, subject)
    if erasure is not None:
        return tombstone(subject, erasure["version"], erasure["event_id"], erasure["erased_at"], operation)
    if present is None:
        raise RowRefusedError(f"The command database has no user {subject}, so there is no state to publish.")
    waiting = await rows.rows_behind(connection, subject, row["id"])
    said, time, user = own_version(row), _time_of(row), public_user(present)
    before = state_before(waiting, said, time)
    if before is None:
        # Nothing that waits can be read, but it counts.
        version = _likely(said, user.version - len(waiting), user.version)
        if version == user.version:
            return snapshot(user, present["event_id"], operation)
        before = _of_version(user.model_dump(), version, time)
    return snapshot(before, row["event_id"] or present["event_id"], operation)


def state_before(waiting: Sequence[Any], version: int | None, updated_at: datetime) -> PublicUser | None:
    """The user of this version, before the first of these events; None where none of them can be read.

    Each has the user after it, and the old values of what it changed. One that cannot be read itself counts as one
    version: what it changed stays as it is after it. Where the version is not known, or cannot be, it is counted.
    """
    for place, row in enumerate(waiting):
        event = _read(row)
        if event is None:
            continue
        # A snapshot brings no version.
        greatest = event.user.version - (0 if isinstance(event, UserSnapshot) else 1)
        document = {**event.user.model_dump(), **event.previous}
        return _of_version(document, _likely(version, greatest - place, greatest), updated_at)
    return None


def own_version(row: Any) -> int | None:
    """The version that a damaged row says of its user in what is left of it; None where it says none."""
    return _version_in_headers(row) or _version_in_value(row)


def _version_in_headers(row: Any) -> int | None:
    try:
        said = dict(decode_headers(row["headers"]))
    except (ValueError, TypeError):
        return None
    sequence = said.get("ce_sequence") or b""
    return int(sequence) if said.get("ce_subject") == str(row["subject_id"]).encode() and sequence.isdigit() else None


def _version_in_value(row: Any) -> int | None:
    try:
        user = PublicUser.model_validate(from_json(row["value"])["user"])
    except (ValueError, TypeError, KeyError):
        return None
    return user.version if user.id == row["subject_id"] else None


def _likely(said: int | None, counted: int, greatest: int) -> int:
    """The version that is said, where it can be; else the one that is counted back."""
    return said if said and said <= greatest else max(counted, 1)


def _of_version(document: dict[str, Any], version: int, updated_at: datetime) -> PublicUser:
    own = {"version": version, "updated_at": rfc3339(updated_at)}
    return PublicUser.model_validate_json(to_json({**document, **own}))


def _read(row: Any) -> ChangeEvent | UserSnapshot | None:
    try:
        envelope = read_envelope(decode_headers(row["headers"]))
        event = USER_EVENTS.decode(envelope.type, row["value"])
    except (EnvelopeError, ValueError, TypeError):
        return None
    return None if isinstance(event, UserErased) else event


def _time_of(row: Any) -> datetime:
    """When the row's event happened, as far as that can be read; else when it was appended, a moment later."""
    try:
        return read_envelope(decode_headers(row["headers"])).time
    except (ValueError, TypeError):
        appended_at: datetime = row["appended_at"]
    try:
        return PublicUser.model_validate(from_json(row["value"])["user"]).updated_at
    except (ValueError, TypeError, KeyError):
        return appended_at
