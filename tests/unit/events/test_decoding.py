"""The kit's `decode`: a value for whatever comes, the same in the fast way and in the thorough one."""

import json
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events import Erased, Unknown, User, UserEvent, decode
from events.decoding import Headers, _decoder
from events.user_events import UserDeactivated, UserErased, UserProfileChanged, UserRegistered, UserSnapshot
from tests.integration.projectors.stream import FakeRecord, new_user, record

USER = new_user(7).model_copy(update={"attributes": {"plan": "pro"}, "version": 3})
RECORD = record(
    UserProfileChanged(user=USER, previous={"display_name": None}), actor="support%2F7", on_behalf_of="self"
)


def _decoded(item: FakeRecord) -> Any:
    return decode(item.key, item.headers, item.value)


def _with_header(name: str, value: bytes | None) -> FakeRecord:
    return replace(RECORD, headers=[(known, value if known == name else old) for known, old in RECORD.headers])


def _with_value(change: Any) -> FakeRecord:
    value = json.loads(RECORD.value or b"")
    change(value)
    return replace(RECORD, value=json.dumps(value, separators=(",", ":")).encode())


def _same_both_ways(key: bytes | None, headers: Headers, value: bytes | None) -> UserEvent | Erased | Unknown:
    """The answer, after a look that the thorough way gives the same."""
    found = decode(key, headers, value)
    assert repr(found) == repr(_decoder.read_thoroughly(key, headers, value))
    return found


def test_an_event_has_the_user_what_was_before_and_who_did_it() -> None:
    event = _decoded(RECORD)

    assert isinstance(event, UserEvent)
    assert event.user.model_dump() == USER.model_dump()
    assert (event.type, event.version, event.user_id) == ("muster.user.profile_changed.v1", 3, USER.id)
    assert (event.previous, event.actor, event.on_behalf_of) == ({"display_name": None}, "support%2F7", "self")
    assert event.id.encode() == dict(RECORD.headers)["ce_id"]
    assert event.time.isoformat() == "2026-11-01T12:00:00+00:00"


def test_a_reason_is_read() -> None:
    event = _decoded(record(UserDeactivated(user=USER, reason="left")))

    assert (event.reason, event.actor) == ("left", None)


def test_a_snapshot_is_an_event_without_a_change() -> None:
    event = _decoded(record(UserSnapshot(user=USER)))

    assert (event.type, event.previous) == ("muster.user.snapshot.v1", {})


def test_a_tombstone_is_an_erasure() -> None:
    erased = _decoded(record(UserErased(USER.id, 4), actor="self"))

    assert isinstance(erased, Erased)
    assert (erased.user_id, erased.version, erased.actor) == (USER.id, 4, "self")


def _add_fields(value: dict[str, Any]) -> None:
    value["later"] = {"a": [1]}
    value["user"]["later"] = 1


def _add_status(value: dict[str, Any]) -> None:
    value["user"]["status"] = "suspended"


@pytest.mark.parametrize("change", [_add_fields, _add_status])
def test_what_is_added_later_is_ignored(change: Any) -> None:
    later = _with_value(change)

    event = _same_both_ways(later.key, later.headers, later.value)

    assert isinstance(event, UserEvent)
    assert event.user.email == USER.email
    assert not hasattr(event.user, "later")


def test_an_open_value_is_given_as_it_is() -> None:
    assert _decoded(_with_value(_add_status)).user.status == "suspended"


@pytest.mark.parametrize("value", [b"1", b"\xff", b"", None])
def test_unknown_headers_are_ignored_whatever_their_bytes(value: bytes | None) -> None:
    item = replace(RECORD, headers=[*RECORD.headers, ("x-proxy", value), ("traceparent", value)])

    assert _same_both_ways(item.key, item.headers, item.value) == _decoded(RECORD)


def _set(*path: str, to: Any) -> Any:
    def change(value: dict[str, Any]) -> None:
        for step in path[:-1]:
            value = value[step]
        value[path[-1]] = to

    return change


#: Each is 3 to a parser that means well.
NO_SEQUENCES = ["+3", " 3", "3\n", "0_3", "\u0663", "3".zfill(21), ""]
WRONG_VALUES: list[tuple[str, Any]] = [
    ("is_active", "yes"), ("is_active", 1), ("email_verified", 1), ("email_verified", "true"), ("version", "3"),
    ("version", 3.0), ("created_at", 1_700_000_000), ("updated_at", 1_700_000_000.5), ("username", ""), ("email", ""),
    ("email", "not an address"), ("email", "@example.com"), ("display_name", 7), ("attributes", []), ("status", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (_with_header("ce_type", b"muster.user.promoted.v1"), "not in the catalogue"),
        (_with_header("ce_type", b"muster.user.registered.v2"), "version 2 of muster.user.registered is newer"),
        (_with_header("ce_type", b"muster.user.erased.v1"), "a tombstone, and nothing else, has no value"),
        (_with_header("ce_type", None), "ce_type is missing"),
        (_with_header("ce_source", b"/other/users"), "ce_source is '/other/users', not '/muster/users'"),
        (_with_header("ce_source", None), "ce_source is None"),
        (_with_header("ce_subject", str(UUID(int=1)).encode()), "the key is not ce_subject"),
        (_with_header("ce_sequence", b"0" * 20), "no version"),
        (_with_header("ce_sequence", b"9" * 20), "no version"),
        (_with_header("ce_sequence", b"4".zfill(20)), "not those of the headers"),
        *((_with_header("ce_sequence", text.encode()), "no number of at most 20 digits") for text in NO_SEQUENCES),
        (_with_header("ce_time", b"2026-11-01T12:00:00"), "no time zone"),
        (_with_header("ce_time", b"noon"), "not what its name promises"),
        (_with_header("ce_id", b"\xff"), "not UTF-8"),
        (_with_header("ce_actor", b"ann@example.com"), "ce_actor is no actor"),
        (replace(RECORD, key=None), "the key is no user's id"),
        (replace(RECORD, value=None), "a tombstone, and nothing else, has no value"),
        (replace(RECORD, value=b"{"), "the value is no muster.user.profile_changed.v1"),
        (replace(RECORD, value=b"[" * 100_000), "the value is no"),
        (replace(RECORD, headers=[]), "ce_source is None"),
        (_with_value(lambda value: value["user"].pop("email")), "user.email: Field required"),
        (_with_value(_set("user", "email", to=7)), "user.email: Input should be a valid string"),
        *((_with_value(_set("user", name, to=value)), f"user.{name}: ") for name, value in WRONG_VALUES),
        (_with_value(_set("user", "id", to=str(UUID(int=1)))), "not those of the headers"),
        (_with_value(_set("user", "attributes", to={"n": float("nan")})), "the value is no"),
        (_with_value(_set("user", "attributes", to={"n": float("inf")})), "the value is no"),
    ],
)
def test_what_cannot_be_read_is_unknown_with_the_reason(item: FakeRecord, reason: str) -> None:
    found = _same_both_ways(item.key, item.headers, item.value)

    assert isinstance(found, Unknown)
    assert reason in found.reason
    assert found.key == item.key


@pytest.mark.parametrize(
    ("key", "headers", "value"),
    [
        (RECORD.key, None, RECORD.value),
        (RECORD.key, [("ce_type", "muster.user.registered.v1")], RECORD.value),
        (RECORD.key, [(name, content and content.decode()) for name, content in RECORD.headers], RECORD.value),
        (RECORD.key, [None], RECORD.value),
        ("0" * 36, RECORD.headers, RECORD.value),
        (RECORD.key, RECORD.headers, 7),
        (RECORD.key, _with_header("ce_sequence", cast("bytes", "3".zfill(20))).headers, RECORD.value),
    ],
    ids=["no headers", "a text", "texts", "no pair", "another key", "a number", "a text among bytes"],
)
def test_what_a_client_gives_in_other_types_is_unknown_and_no_error(key: Any, headers: Any, value: Any) -> None:
    assert isinstance(_same_both_ways(key, headers, value), Unknown)


@pytest.mark.parametrize("moved", [1, 6, 8])
def test_an_id_that_lacks_what_the_key_has_too_much_is_unknown(moved: int) -> None:
    id_, key = dict(RECORD.headers)["ce_id"] or b"", RECORD.key or b""
    changed = {"ce_id": id_[:-moved], "ce_subject": id_[-moved:] + key}
    headers = [(name, changed.get(name, value)) for name, value in RECORD.headers]

    assert isinstance(_same_both_ways(changed["ce_subject"], headers, RECORD.value), Unknown)


def test_a_user_is_also_read_where_others_have_read_the_json() -> None:
    """As typed frameworks do: there times and ids are texts."""
    assert User.model_validate(json.loads(RECORD.value or b"")["user"]) == _decoded(RECORD).user


def test_the_reason_holds_nothing_of_the_user() -> None:
    found = _decoded(_with_value(_set("user", "is_active", to="ada@example.com")))

    assert isinstance(found, Unknown)
    assert "ada@example.com" not in found.reason
    assert found.type == "muster.user.profile_changed.v1"


NAMES = st.sampled_from([name for name, _ in RECORD.headers]) | st.text(max_size=5)
PIECES = st.binary(max_size=40) | st.sampled_from([content for _, content in RECORD.headers if content])
HEADERS = st.lists(st.tuples(NAMES, st.none() | PIECES), max_size=16)


@given(key=st.none() | st.binary(max_size=40), headers=HEADERS, value=st.none() | st.binary(max_size=60))
def test_any_bytes_are_an_answer(key: bytes | None, headers: Headers, value: bytes | None) -> None:
    _same_both_ways(key, headers, value)


@given(at=st.integers(0, 13), value=st.none() | PIECES, twice=st.booleans())
def test_a_record_with_any_header_altered_is_an_answer(at: int, value: bytes | None, twice: bool) -> None:
    headers = list(RECORD.headers)
    altered = headers[at % len(headers)][0], value
    headers[at % len(headers) : at % len(headers) + 1] = [headers[at % len(headers)], altered] if twice else [altered]

    _same_both_ways(RECORD.key, headers, RECORD.value)


@given(at=st.integers(0, 1000), length=st.integers(0, 4), bytes_=st.binary(max_size=4))
@example(at=1, length=0, bytes_=b'"user":1,')
def test_a_value_with_any_bytes_altered_is_an_answer(at: int, length: int, bytes_: bytes) -> None:
    value = RECORD.value or b""
    at %= len(value)

    _same_both_ways(RECORD.key, RECORD.headers, value[:at] + bytes_ + value[at + length :])


@given(at=st.integers(0, 35), byte=st.binary(min_size=1, max_size=2))
def test_a_key_with_any_bytes_altered_is_an_answer(at: int, byte: bytes) -> None:
    key = RECORD.key or b""
    key = key[:at] + byte + key[at + 1 :]
    headers = [(name, key if name == "ce_subject" else value) for name, value in RECORD.headers]

    _same_both_ways(key, headers, RECORD.value)


def test_registered_users_are_read_like_all_others() -> None:
    event = _decoded(record(UserRegistered(user=USER)))

    assert (event.type, event.previous) == ("muster.user.registered.v1", {})
