"""What the read tables must say: each projection as a naive loop over the records, and the tables in the same terms."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC
from typing import Any
from uuid import UUID

from chassis.postgres.database import Connection
from events.user_events import USER_EVENTS, UserEventData, UserSnapshot
from projectors.decoding.records import DecodedEvent, Record, RecordDecoder
from projectors.projections.user_subject import USERS

Contents = dict[str, Any]


def event_of(change: DecodedEvent) -> UserEventData:
    """The event as the catalogue reads it, which is not how projections do."""
    assert change.record.value is not None
    return USER_EVENTS.decode(change.type, change.record.value)


def fold_users(changes: Iterable[DecodedEvent]) -> Contents:
    """Documents and erased versions."""
    documents: dict[UUID, Any] = {}
    erased: dict[UUID, int] = {}
    for change in changes:
        if change.state is None:
            documents.pop(change.subject_id, None)
            erased[change.subject_id] = change.version
        else:
            documents[change.subject_id] = json.loads(event_of(change).user.model_dump_json())
    return {"users": documents, "erased": erased}


def fold_timeline(changes: Iterable[DecodedEvent]) -> Contents:
    """(version, type, fields that changed) of each user, oldest first."""
    entries: dict[UUID, list[Any]] = {}
    erased: dict[UUID, int] = {}
    for change in changes:
        if change.state is None:
            entries.pop(change.subject_id, None)
            erased[change.subject_id] = change.version
        elif change.type != UserSnapshot.type():
            name = change.type.split(".")[2]
            entry = (change.version, name, sorted(event_of(change).previous), change.envelope.event_id)
            entries.setdefault(change.subject_id, []).append(entry)
    return {"entries": entries, "erased": erased}


def fold_signups(changes: Iterable[DecodedEvent]) -> Contents:
    """Users a day and status."""
    users: dict[UUID, tuple[Any, str]] = {}
    for change in changes:
        if change.state is None:
            users.pop(change.subject_id, None)
        else:
            user = event_of(change).user
            users[change.subject_id] = (user.created_at.astimezone(UTC).date(), user.status)
    return dict(Counter(users.values()))


async def users_contents(connection: Connection, number: int = 1) -> Contents:
    """What the users' tables say."""
    rows = await connection.fetch(f"SELECT * FROM users_g{number}")
    erased = await connection.fetch(f"SELECT * FROM users_g{number}_erased")
    documents = {row["id"]: json.loads(row["document"]) for row in rows}
    assert all(documents[row["id"]]["version"] == row["version"] for row in rows)
    return {"users": documents, "erased": {row["id"]: row["version"] for row in erased}}


async def timeline_contents(connection: Connection, number: int = 1) -> Contents:
    """What the timeline's tables say."""
    entries: dict[UUID, list[Any]] = {}
    for row in await connection.fetch(f"SELECT * FROM timeline_g{number} ORDER BY user_id, version"):
        document = json.loads(row["document"])
        entry = (document["version"], document["type"], sorted(document["changes"]), UUID(document["event_id"]))
        entries.setdefault(row["user_id"], []).append(entry)
    heads = await connection.fetch(f"SELECT * FROM timeline_g{number}_users")
    assert all(entries[row["id"]][-1][0] == row["version"] for row in heads if row["erased_version"] is None)
    erased = {row["id"]: row["erased_version"] for row in heads if row["erased_version"] == row["version"]}
    return {"entries": entries, "erased": erased}


async def signups_contents(connection: Connection, number: int = 1) -> Contents:
    """What the counters say, zeros left out, and that they are the sum of the users' rows."""
    counts: Counter[Any] = Counter()
    for row in await connection.fetch(f"SELECT * FROM signups_g{number}"):
        counts[row["day"], "active"] = row["active"]
        counts[row["day"], "deactivated"] = row["deactivated"]
    rows = await connection.fetch(f"SELECT day, status FROM signups_g{number}_users WHERE day IS NOT NULL")
    contents = {key: count for key, count in counts.items() if count}
    assert contents == dict(Counter((row["day"], row["status"]) for row in rows))
    return contents


FOLDS: dict[str, Callable[[Iterable[DecodedEvent]], Contents]] = {
    "users": fold_users,
    "timeline": fold_timeline,
    "signups": fold_signups,
}
CONTENTS = {"users": users_contents, "timeline": timeline_contents, "signups": signups_contents}


def changes_of(records: Iterable[Record]) -> list[DecodedEvent]:
    """The records decoded; all of them must be in order."""
    changes = list(map(RecordDecoder(USERS).read, records))
    assert all(isinstance(change, DecodedEvent) for change in changes)
    return changes  # type: ignore[return-value]
