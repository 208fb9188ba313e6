"""The state before an event that waits: what a dropped row's snapshot says."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from command_api.damaged_rows import own_version, state_before
from events.envelope import Envelope
from events.user_events import USER_EVENTS, PublicUser, UserDeactivated, UserProfileChanged, UserSnapshot
from outbox.headers import encode_headers

BEFORE, NOW = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
ANN = PublicUser(
    id=uuid4(), email="ann@example.com", username="ann", email_verified=True, display_name="Ann",
    attributes={"team": "red"}, is_active=True, status="active", version=4, created_at=BEFORE, updated_at=BEFORE,
)  # fmt: skip


def row(event: Any) -> dict[str, Any]:
    """The event as the outbox has it."""
    envelope = Envelope(
        event_id=uuid4(), source=USER_EVENTS.source, type=USER_EVENTS.event_type(event), subject_id=ANN.id,
        version=event.user.version, time=NOW, correlation_id="test", causation_id="test",
    )  # fmt: skip
    return {"value": USER_EVENTS.encode(event), "headers": encode_headers(envelope)}


def after(version: int, **changes: Any) -> PublicUser:
    return ANN.model_copy(update={"version": version, "updated_at": NOW, **changes})


DEACTIVATED = UserDeactivated(
    user=after(5, is_active=False, status="deactivated"), previous={"is_active": True, "status": "active"}
)
CHANGED = UserProfileChanged(
    user=after(5, attributes={}, display_name=None), previous={"attributes": {"team": "red"}, "display_name": "Ann"}
)


def test_the_old_values_are_put_back_and_the_version_is_one_less() -> None:
    for event in (DEACTIVATED, CHANGED):
        assert state_before([row(event)], None, BEFORE) == ANN


def test_a_snapshot_that_waits_says_the_state_itself() -> None:
    assert state_before([row(UserSnapshot(user=after(4)))], None, BEFORE) == ANN


def test_an_event_that_cannot_be_read_counts_as_a_version() -> None:
    unreadable = {"value": b"{", "headers": row(CHANGED)["headers"]}
    later = UserProfileChanged(user=after(6, display_name="Anna"), previous={"display_name": "Ann"})

    assert state_before([unreadable, row(later)], None, BEFORE) == ANN


def test_nothing_is_known_where_nothing_can_be_read() -> None:
    assert (
        state_before([{"value": None, "headers": None}, {"value": b"{}", "headers": b"garbage"}], None, BEFORE) is None
    )


def test_the_version_that_the_row_says_itself_counts_where_it_can_be() -> None:
    snapshot = [row(UserSnapshot(user=after(9)))]
    assert state_before(snapshot, 4, BEFORE) == ANN
    for impossible in (10, 0, None):
        found = state_before(snapshot, impossible, BEFORE)
        assert found is not None
        assert found.version == 9
    found = state_before([row(CHANGED)], 5, BEFORE)
    assert found is not None
    assert found.version == 4, "the next event has the version after it"


def test_a_damaged_row_says_its_version_in_what_is_left_of_it() -> None:
    whole = {"subject_id": ANN.id, **row(CHANGED)}
    assert own_version(whole) == 5
    assert own_version({**whole, "value": b"{"}) == 5
    assert own_version({**whole, "headers": b"garbage"}) == 5
    assert own_version({**whole, "subject_id": uuid4()}) is None
    assert own_version({**whole, "headers": None, "value": None}) is None
