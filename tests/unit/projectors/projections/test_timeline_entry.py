"""An entry of the timeline as the query API sends it."""

import json
from datetime import UTC, datetime

from chassis.identifiers import new_id
from events.user_events import PublicUser, UserDeactivated, UserEmailChanged
from projectors.decoding.records import DecodedEvent, RecordDecoder
from projectors.projections.timeline import entry
from projectors.projections.user_subject import USERS
from tests.integration.projectors.stream import record

NOW = datetime(2026, 11, 22, 10, 30, 0, 5, tzinfo=UTC)


def public_user() -> PublicUser:
    return PublicUser(
        id=new_id(), email="new@example.com", username="ann", email_verified=False, display_name=None, attributes={},
        is_active=False, status="deactivated", version=4, created_at=NOW, updated_at=NOW,
    )  # fmt: skip


def change(event: UserEmailChanged | UserDeactivated) -> DecodedEvent:
    found = RecordDecoder(USERS).read(record(event, now=NOW))
    assert isinstance(found, DecodedEvent)
    return found


def test_says_what_changed_from_what_to_what() -> None:
    previous = {"email": "old@example.com", "email_verified": True}
    given = change(UserEmailChanged(user=public_user(), previous=previous))
    assert json.loads(entry(given, given.envelope)) == {
        "event_id": str(given.envelope.event_id),
        "type": "email_changed",
        "version": 4,
        "time": "2026-11-22T10:30:00.000005Z",
        "changes": {
            "email": {"from": "old@example.com", "to": "new@example.com"},
            "email_verified": {"from": True, "to": False},
        },
        "reason": None,
    }


def test_gives_the_reason_where_there_was_one() -> None:
    previous = {"status": "active", "is_active": True}
    given = change(UserDeactivated(user=public_user(), previous=previous, reason="left"))
    document = json.loads(entry(given, given.envelope))
    assert document["reason"] == "left"
    assert document["changes"]["status"] == {"from": "active", "to": "deactivated"}
