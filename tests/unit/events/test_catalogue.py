"""Every version ever published stays readable: one golden JSON each, written once and never changed."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import ClassVar
from uuid import UUID, uuid4

import pytest

from chassis import clock
from events.catalogue import Catalogue, EventData, InvalidEventError, UnknownEventError, short_name
from events.envelope import HEADER_NAMES, OPTIONAL_HEADERS, Envelope, EnvelopeError, read_envelope
from events.times import rfc3339
from events.user_events import (
    USER_EVENTS,
    PublicUser,
    UserDeactivated,
    UserErased,
    UserEventData,
    UserRegistered,
    UserSnapshot,
    encode_with_user,
)

GOLDEN = Path(__file__).parent / "golden"
USER = PublicUser(
    id=UUID("0199d0c8-7d5c-7c5e-8a3f-0123456789ab"),
    email="Åsa@example.com",
    username="åsa",
    email_verified=False,
    display_name=None,
    attributes={"plan": "free", "tags": ["a", 1, None, True]},
    is_active=True,
    status="active",
    version=1,
    created_at=datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC),
    updated_at=datetime(2026, 11, 22, 10, 0, 0, 5, tzinfo=UTC),
)


def type_of(golden: Path) -> str:
    """The type of a value, whose file is named after it, or TYPE-NAME."""
    return golden.stem.partition("-")[0]


@pytest.mark.parametrize("kind", USER_EVENTS.classes.values(), ids=lambda kind: kind.__name__)
def test_every_published_version_has_a_golden_json_that_is_still_read(kind: type[UserEventData]) -> None:
    for version in range(1, kind.version + 1):
        type_ = f"{kind.name}.v{version}"
        goldens = [GOLDEN / f"{type_}.json", *GOLDEN.glob(f"{type_}-*.json")]
        for golden in goldens:
            event = USER_EVENTS.decode(type_, golden.read_bytes())

            assert isinstance(event, kind)
            assert event.user.id == USER.id


@pytest.mark.parametrize("kind", USER_EVENTS.classes.values(), ids=lambda kind: kind.__name__)
def test_the_newest_version_is_written_as_its_golden_json(kind: type[UserEventData]) -> None:
    type_ = f"{kind.name}.v{kind.version}"
    for path in (GOLDEN / f"{type_}.json", *GOLDEN.glob(f"{type_}-*.json")):
        golden = path.read_bytes()

        written = USER_EVENTS.encode(USER_EVENTS.decode(type_, golden))

        assert written is not None
        assert json.loads(written) == json.loads(golden)


def test_nothing_in_the_golden_folder_is_forgotten() -> None:
    assert {type_of(path) for path in GOLDEN.iterdir()} == set(USER_EVENTS.types()) - {"muster.user.erased.v1"}


def test_times_have_microseconds_even_when_they_are_zero() -> None:
    document = json.loads(USER_EVENTS.encode(UserRegistered(user=USER)) or b"")

    assert document["user"]["created_at"] == "2026-11-22T10:00:00.000000Z"
    assert document["user"]["updated_at"] == "2026-11-22T10:00:00.000005Z"


def test_an_erasure_is_a_tombstone() -> None:
    erased = UserErased(user_id=USER.id, version=7)

    assert USER_EVENTS.encode(erased) is None
    assert USER_EVENTS.event_type(erased) == "muster.user.erased.v1"


def test_a_reason_is_there_only_where_one_was_given() -> None:
    without, given = UserDeactivated(user=USER), UserDeactivated(user=USER, reason="left")

    assert "reason" not in json.loads(USER_EVENTS.encode(without) or b"")
    assert json.loads(USER_EVENTS.encode(given) or b"")["reason"] == "left"


@pytest.mark.parametrize("type_", ["muster.user.promoted.v1", "other.user.registered.v1", "muster.user.registered", ""])
def test_an_unknown_type_is_named(type_: str) -> None:
    with pytest.raises(UnknownEventError, match="not in the catalogue"):
        USER_EVENTS.decode(type_, b"{}")


def test_a_newer_version_is_refused_with_what_is_known() -> None:
    with pytest.raises(UnknownEventError, match=r"version 2 of muster.user.registered is newer .* \(1\)"):
        USER_EVENTS.decode("muster.user.registered.v2", b"{}")


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"{}", b'{"user":{"id":"x"}}', b"\xff"])
def test_data_that_is_not_of_its_type_is_refused_with_the_field(value: bytes) -> None:
    with pytest.raises(InvalidEventError, match=r"no muster\.user\.registered\.v1"):
        USER_EVENTS.decode("muster.user.registered.v1", value)


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.stem)
def test_an_event_is_encoded_the_same_around_its_users_json(path: Path) -> None:
    event = USER_EVENTS.decode(type_of(path), path.read_bytes())
    if isinstance(event, UserSnapshot):
        return  # no command leads to it

    assert encode_with_user(event, event.user.model_dump_json().encode()) == USER_EVENTS.encode(event)


@pytest.mark.parametrize(
    "time",
    [USER.created_at, USER.updated_at, datetime(2026, 11, 22, 10, 0, 0, 5, tzinfo=timezone(timedelta(hours=-3)))],
)
def test_the_chassis_and_the_events_write_a_time_alike(time: datetime) -> None:
    assert rfc3339(time) == clock.rfc3339(time)


def test_only_the_published_version_of_a_type_is_the_newest() -> None:
    assert USER_EVENTS.is_newest("muster.user.registered.v1")
    assert not USER_EVENTS.is_newest("muster.user.registered.v2")
    assert not USER_EVENTS.is_newest(USER_EVENTS.tombstone_type)


class TeamFounded(EventData):
    """A team of another kind of subject, whose event is in its second version."""

    name: ClassVar[str] = "muster.team.founded"
    version: ClassVar[int] = 2
    title: str


class TeamDissolved:
    name: ClassVar[str] = "muster.team.dissolved"


def test_another_kind_of_subject_has_a_catalogue_of_its_own_that_reads_old_versions() -> None:
    teams = Catalogue[TeamFounded, TeamDissolved](
        subject="team",
        source="/muster/teams",
        classes=[TeamFounded],
        tombstone=TeamDissolved,
        upcasters={("muster.team.founded", 1): lambda data: {"title": data["name"]}},
    )

    assert teams.types() == ["muster.team.founded.v2", "muster.team.dissolved.v1"]
    assert teams.decode("muster.team.founded.v1", b'{"name":"Blue"}') == TeamFounded(title="Blue")
    assert teams.decode("muster.team.founded.v2", b'{"title":"Blue"}') == TeamFounded(title="Blue")
    assert teams.encode(TeamFounded(title="Blue")) == b'{"title":"Blue"}'
    assert (teams.encode(TeamDissolved()), teams.event_type(TeamDissolved())) == (None, "muster.team.dissolved.v1")
    with pytest.raises(UnknownEventError):
        teams.decode("muster.user.registered.v1", b"{}")


def test_short_names_are_those_of_the_timeline() -> None:
    assert short_name("muster.user.email_changed.v1") == "email_changed"
    assert short_name("muster.user.erased.v1") == "erased"


def envelope() -> Envelope:
    return Envelope(
        event_id=uuid4(),
        type="muster.user.registered.v1",
        source=USER_EVENTS.source,
        subject_id=USER.id,
        version=12,
        time=USER.created_at,
        correlation_id="request-1",
        causation_id="command-1",
        actor="support%2F7",
        on_behalf_of="self",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )


def test_an_envelope_reads_back_from_its_headers() -> None:
    made = envelope()

    assert read_envelope(made.headers()) == made


def test_the_headers_of_every_event_have_their_names() -> None:
    assert tuple(name for name, _ in envelope().headers()) == (*HEADER_NAMES, *OPTIONAL_HEADERS)


def test_headers_are_those_of_the_cloudevents_kafka_binding() -> None:
    made = envelope()
    headers = {name: value.decode() for name, value in made.headers()}

    assert headers == {
        "ce_specversion": "1.0",
        "ce_id": str(made.event_id),
        "ce_source": "/muster/users",
        "ce_type": "muster.user.registered.v1",
        "ce_subject": str(USER.id),
        "ce_time": rfc3339(USER.created_at),
        "ce_sequence": "00000000000000000012",
        "ce_correlationid": "request-1",
        "ce_causationid": "command-1",
        "ce_dataschema": "/schemas/muster.user.registered.v1.json",
        "content-type": "application/json",
        "ce_actor": "support%2F7",
        "ce_onbehalfof": "self",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ce_type", None, "ce_type is missing"),
        ("ce_subject", b"nobody", "not what its name promises"),
        ("ce_sequence", b"many", "not what its name promises"),
        ("ce_id", b"\xff", "not UTF-8"),
        ("ce_actor", b"ann@example.com", "ce_actor is no actor"),
        ("ce_onbehalfof", b"", "ce_onbehalfof is no actor"),
    ],
)
def test_a_bad_header_is_named(name: str, value: bytes | None, message: str) -> None:
    headers = [(key, value if key == name else old) for key, old in envelope().headers()]

    with pytest.raises(EnvelopeError, match=message):
        read_envelope(headers)
