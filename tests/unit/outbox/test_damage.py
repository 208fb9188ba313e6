"""What of a row is found to be damaged, and in which words; whole rows pass, at whichever look."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from events.catalogue import Catalogue, EventData
from events.envelope import Envelope, read_envelope
from events.topics import MAX_MESSAGE_BYTES
from events.user_events import USER_EVENTS, UserErased
from outbox.damage import Examiner
from outbox.headers import decode_headers, encode_headers

CHANGED = "muster.user.profile_changed.v1"
ERASED = USER_EVENTS.tombstone_type
UNKNOWN = "its type (ce_type) is unknown"


def row(type_: str = CHANGED, source: str = USER_EVENTS.source, **changes: Any) -> Any:
    """A whole row, but for the changes."""
    event = Envelope(
        event_id=uuid4(), type=type_, source=source, subject_id=uuid4(), version=3, time=datetime.now(UTC),
        correlation_id="test", causation_id="test",
    )  # fmt: skip
    whole = {
        "event_id": str(event.event_id),
        "subject_id": str(event.subject_id),
        "value": None if type_ == ERASED else b"{}",
        "headers": encode_headers(event),
        "damage": None,
    }
    return whole | changes


def first_damaged(*rows: Any) -> tuple[int, str] | None:
    """What an examiner says that has seen an event of each kind before."""
    examiner = Examiner(USER_EVENTS)
    assert examiner.first_damaged([row(), row(ERASED)]) is None
    return examiner.first_damaged(rows)


def test_whole_rows_of_every_type_pass() -> None:
    rows = [row(type_) for type_ in USER_EVENTS.types()] * 2

    assert Examiner(USER_EVENTS).first_damaged(rows) is None


def test_types_of_a_source_that_no_catalogue_has_pass() -> None:
    rows = [row("muster.team.founded.v1", "/muster/teams"), row(ERASED, "/muster/teams")] * 2

    assert Examiner(USER_EVENTS).first_damaged(rows) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"headers": None}, "its headers is null"),
        ({"event_id": None, "headers": b""}, "its event_id is null"),
        ({"headers": b""}, "no headers: they end too early"),
        ({"headers": b"garbage"}, "no headers: their number is -52"),
        ({"headers": b"\0"}, "the header ce_id is missing"),
        ({"value": None}, f"its type is {CHANGED} and its value is null"),
        ({"value": b""}, "its value is no JSON"),
        ({"value": b"not json"}, "its value is no JSON"),
        ({"value": b"[1]"}, "its value is no JSON object"),
        ({"value": b'{"a":"' + b"x" * MAX_MESSAGE_BYTES + b'"}'}, "1,048,576 are allowed"),
        ({"value": b"{}", "type_": ERASED}, f"its type is {ERASED} and its value is not null"),
        ({"type_": "muster.user.unheard_of.v1"}, UNKNOWN),
    ],
)
def test_the_relay_sees_what_must_not_go_out(changes: dict[str, Any], said: str) -> None:
    found = first_damaged(row(), row(**changes), row())

    assert found is not None
    assert found[0] == 1
    assert said in found[1]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: whole | {"headers": whole["headers"][:-3]}, "no headers: they end too early"),
        (lambda whole: whole | {"headers": whole["headers"] + b"\0"}, "no headers: 1 bytes follow the last"),
        (lambda whole: whole | {"event_id": str(uuid4())}, "its headers are those of event"),
        (lambda whole: whole | {"subject_id": str(uuid4())}, "its headers name the subject"),
        (lambda whole: whole | {"value": b"{"}, "its value is no JSON"),
    ],
)
def test_a_whole_look_finds_the_rest(damage: Any, said: str) -> None:
    found = Examiner(USER_EVENTS).damage_of(damage(row()))

    assert found is not None
    assert said in found


CANARY = b"kanari@x.example.com"


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole | {"value": CANARY},
        lambda whole: whole | {"value": b'{"email":"%s"' % CANARY},
        lambda whole: whole | {"value": b'"%s"' % CANARY},
        lambda whole: whole | {"headers": CANARY},
        lambda whole: whole | {"headers": whole["headers"].replace(b"%020d" % 3, CANARY)},
        lambda whole: whole | {"headers": whole["headers"].replace(b"profile_changed.v1", CANARY[:18])},
        lambda whole: whole | {"headers": whole["headers"].replace(str(whole["event_id"]).encode()[:20], CANARY)},
    ],
)
def test_what_is_wrong_is_said_without_the_rows_values(damage: Any) -> None:
    """It is logged, and shown to whoever asks whether the relay is ready."""
    found = Examiner(USER_EVENTS).damage_of(damage(row()))

    assert found is not None
    assert "kanari" not in found


def test_an_event_under_anothers_headers_or_with_half_a_value_is_found_among_those_that_were_seen_before() -> None:
    borrowed = row(headers=row()["headers"])
    cut = row(value=b'{"user": {"id": ')

    assert first_damaged(borrowed) == (0, f"its headers are those of event {_event_of(borrowed)}")
    place, said = first_damaged(row(), cut) or (None, "")
    assert place == 1
    assert said.startswith("its value is no JSON")


def test_every_type_is_told_from_those_seen_before_however_long_it_or_its_source_is() -> None:
    teams = Catalogue(
        subject="team", source="/muster/organisations/departments/teams", classes=[Founded], tombstone=UserErased
    )
    whole = row(Founded.type(), teams.source)
    newer = row(Founded.type().replace(".v1", ".v7"), teams.source)

    assert first_damaged(row(CHANGED.replace(".v1", ".v7"))) == (0, UNKNOWN)
    assert first_damaged(row(f"{CHANGED}1")) == (0, UNKNOWN)
    assert Examiner(teams).first_damaged([whole, whole]) is None
    assert Examiner(teams).first_damaged([whole, newer]) == (1, UNKNOWN)


class Founded(EventData):
    """The one event of another kind of subject."""

    name = "muster.team.founded"


def _event_of(row: Any) -> str:
    return str(read_envelope(decode_headers(row["headers"])).event_id)
