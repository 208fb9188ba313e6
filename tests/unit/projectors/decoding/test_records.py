"""Decoding: a slice is read as the catalogue reads each of its records, whatever is in it and wherever."""

import json
from dataclasses import replace
from itertools import combinations
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.user_events import PublicUser, UserDeactivated, UserErased, UserProfileChanged, UserRegistered
from projectors.decoding import records
from projectors.decoding.records import DecodedEvent, Poison, RecordDecoder
from projectors.decoding.slices import SliceDecoder
from projectors.projections.user_subject import USERS
from tests.integration.projectors.stream import FakeRecord, lives, new_user, record

DECODER, SLICES = RecordDecoder(USERS), SliceDecoder(USERS)
read_record, read_records = DECODER.read, SLICES.read
USER = new_user(7).model_copy(update={"attributes": {"a": [1, {"b": None}], "c": "x"}})
#: Such as the catalogue may read in a lax way, or the short way might.
TEXTS = [
    "",
    "active",
    "2026-11-01",
    "2026-11-31T12:00:00.000000Z",
    "2026-W44-7T12:00:00.000000Z",
    "2026-11-29T12:00:00.000000Z",
    "0000-11-28T12:00:00.000000Z",
    "0001-01-01T00:00:00.000000Z",
    "1.0",
    "1",
    "true",
    str(USER.id).upper(),
    "\0",
    "é",
]
#: What the relay may write behind the headers that every event has, in its order.
OPTIONAL = [("ce_actor", b"support%2F7"), ("ce_onbehalfof", b"shop"), ("traceparent", b"00-1-2-01")]
PLAIN = record(UserRegistered(user=USER))
REGISTERED = replace(PLAIN, headers=[*PLAIN.headers, *OPTIONAL])


BESIDE = [*lives(3, 6, seed=2), record(UserErased(USER.id, 3))]


def same(item: FakeRecord) -> bool:
    """Whether a slice reads the record as the catalogue does, alone and among others.

    As texts: a number that is beyond JSON's range is not equal to itself.
    """
    alone, long = read_records([item]), read_record(item)
    among = read_records([*BESIDE, item, *BESIDE])
    assert shown(among) == shown([read_record(one) for one in [*BESIDE, item, *BESIDE]])
    return shown(alone) == shown([long])


def shown(items: list[DecodedEvent | Poison]) -> list[str]:
    return [repr(item if isinstance(item, Poison) else plain(item)) for item in items]


def plain(change: DecodedEvent) -> tuple[Any, ...]:
    assert change.state is None or change.state == DECODER._decode_state(change.document)
    return (
        change.record, change.subject_id, change.version, change.type, change.document, change.previous, change.reason
    )  # fmt: skip


def with_value(value: bytes) -> FakeRecord:
    return replace(REGISTERED, value=value)


def with_headers(at: int, *instead: tuple[str, bytes | None]) -> FakeRecord:
    return replace(REGISTERED, headers=[*REGISTERED.headers[:at], *instead, *REGISTERED.headers[at + 1 :]])


def test_whatever_the_relay_publishes_takes_the_short_way_and_says_the_same() -> None:
    items = [item for item in lives(20, 200, seed=1) if item.value is not None and b'"reason"' not in item.value]
    assert len(items) > 100
    assert shown(SLICES._read_plain(items)) == shown([read_record(item) for item in items])


@pytest.mark.parametrize("optional", [some for size in (1, 2, 3) for some in combinations(OPTIONAL, size)])
def test_a_record_with_optional_headers_takes_the_short_way_beside_others(optional: tuple[Any, ...]) -> None:
    more = replace(PLAIN, headers=[*PLAIN.headers, *optional])
    for some in ([more], [more, PLAIN], [PLAIN, more, REGISTERED]):
        assert shown(SLICES._read_plain(some)) == shown([read_record(item) for item in some])


@pytest.mark.parametrize("actor", [b"", b"ann@example.com", b"a b", b"a\0", b"x" * 256, b"x\n"])
@pytest.mark.parametrize("name", ["ce_actor", "ce_onbehalfof"])
def test_an_actor_that_none_could_be_is_poison(name: str, actor: bytes) -> None:
    """It would stop the timeline alone, or be shown as something that it is not."""
    item = replace(PLAIN, headers=[*PLAIN.headers, (name, actor)])
    assert isinstance(read_record(item), Poison)
    assert same(item)


@pytest.mark.parametrize("timestamp", [-1, 0, 2**62])
def test_a_timestamp_that_no_calendar_has_is_moved_to_its_nearest_end(timestamp: int) -> None:
    assert records.time_of(replace(PLAIN, timestamp=timestamp)).year in {1970, 9999}


@pytest.mark.parametrize("day", ["2024-02-29", "2026-10-31", "0001-01-01", "9999-12-31"])
def test_every_day_that_exists_takes_the_short_way(day: str) -> None:
    assert REGISTERED.value is not None
    item = with_value(REGISTERED.value.replace(b"2026-11-01T", f"{day}T".encode()))
    assert shown(SLICES._read_plain([item])) == shown([read_record(item)])


@given(st.text(st.characters(exclude_categories=["Cs"])), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
))  # fmt: skip
def test_any_text_and_any_attributes_are_read_as_the_catalogue_reads_them(text: str, attribute: Any) -> None:
    attributes = {"a": attribute}
    user = USER.model_copy(update={"email": text, "display_name": text, "attributes": attributes})
    item = record(UserProfileChanged(user=user, previous={"attributes": attributes}))
    assert same(item)
    if "\0" not in text and b"\\u0000" not in (item.value or b""):
        [change] = SLICES._read_plain([item])
        assert isinstance(change, DecodedEvent)
        assert change.document == user.model_dump_json().encode()


@given(data=st.data())
def test_a_value_with_any_field_altered_is_read_as_the_catalogue_reads_it(data: st.DataObject) -> None:
    assert REGISTERED.value is not None
    value = json.loads(REGISTERED.value)
    part = data.draw(st.sampled_from([value, value["user"]]))
    name = data.draw(st.sampled_from([*part, "another"]))
    texts = st.sampled_from(TEXTS)
    scalars = st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | texts
    if data.draw(st.booleans()):
        part[name] = data.draw(scalars | st.lists(scalars, max_size=2) | st.dictionaries(texts, scalars, max_size=2))
    else:
        part.pop(name, None)
    item = with_value(json.dumps(value, separators=(",", ":")).encode())
    assert same(item)


@given(st.binary(max_size=3), st.integers(0, 400), st.integers(0, 5))
@example(b"\xff", 30, 1)
def test_a_value_with_any_bytes_altered_is_read_as_the_catalogue_reads_it(some: bytes, at: int, cut: int) -> None:
    assert REGISTERED.value is not None
    item = with_value(REGISTERED.value[:at] + some + REGISTERED.value[at + cut :])
    assert same(item)


@pytest.mark.parametrize("name", PublicUser.model_fields)
def test_a_field_with_an_awkward_text_is_read_as_the_catalogue_reads_it(name: str) -> None:
    assert REGISTERED.value is not None
    value = json.loads(REGISTERED.value)
    for text in TEXTS:
        value["user"][name] = text
        item = with_value(json.dumps(value, separators=(",", ":")).encode())
        assert same(item), text


@pytest.mark.parametrize("version", [-1, 0, 2, 2**63, 2**64])
def test_a_version_that_is_not_the_headers_is_read_as_the_catalogue_reads_it(version: int) -> None:
    assert REGISTERED.value is not None
    item = with_value(REGISTERED.value.replace(b'"version":1', b'"version":%d' % version))
    assert isinstance(read_record(item), Poison)
    assert same(item)


@pytest.mark.parametrize("name", [name for name, _ in REGISTERED.headers])
def test_a_header_with_an_awkward_text_is_read_as_the_envelope_reads_it(name: str) -> None:
    at = [name for name, _ in REGISTERED.headers].index(name)
    texts = [*TEXTS, "0", "-1", str(2**63 - 1), str(2**63), "9" * 5000, "0" * 30 + "1", "muster.user.registered.v2"]
    for value in [None, b"\xff", *(text.encode() for text in texts)]:
        item = with_headers(at, (name, value))
        assert same(item), value


@given(data=st.data())
def test_headers_altered_in_any_way_are_read_as_the_envelope_reads_them(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(REGISTERED.headers) - 1))
    name, old = REGISTERED.headers[at]
    assert old is not None
    cut, end = sorted(data.draw(st.tuples(st.integers(0, len(old)), st.integers(0, len(old)))))
    new = (data.draw(st.sampled_from([name, "ce_another"])), old[:cut] + data.draw(st.binary(max_size=3)) + old[end:])
    item = with_headers(at, *data.draw(st.sampled_from([(), (new,), (new, (name, old)), ((name, old), new)])))
    assert same(item)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_a_number_that_json_cannot_say_is_poison(number: bytes) -> None:
    assert REGISTERED.value is not None
    item = with_value(REGISTERED.value.replace(b'{"a":[1', b'{"a":[' + number))
    assert isinstance(read_record(item), Poison)


def test_a_header_that_is_no_text_is_poison_whichever_it_is() -> None:
    for index, (name, _) in enumerate(REGISTERED.headers):
        headers = list(REGISTERED.headers)
        headers[index] = (name, b"\xff")
        assert isinstance(read_record(replace(REGISTERED, headers=headers)), Poison)


def test_ids_are_equal_to_the_standard_librarys() -> None:
    key = records.key_of(REGISTERED)
    assert key == USER.id
    assert isinstance(key, UUID)
    assert hash(key) == hash(USER.id)
    assert records.key_of(replace(REGISTERED, key=b"{" + str(USER.id).encode()[1:])) is None


def test_a_tombstone_has_no_data() -> None:
    change = read_record(record(UserErased(USER.id, 3)))
    assert isinstance(change, DecodedEvent)
    assert (change.subject_id, change.version, change.state) == (USER.id, 3, None)


AWKWARD: list[dict[str, Any]] = [
    {},
    {"previous": 1},
    {"user": 1},
    {"x": '","previous":{}}'},
    {"x": "\\"},
    {'"previous"': {"user": '"user"'}},
    {"é\n": "İß"},
]


@pytest.mark.parametrize("attributes", AWKWARD, ids=map(str, range(len(AWKWARD))))
def test_the_document_is_the_user_as_the_command_api_writes_it(attributes: dict[str, Any]) -> None:
    user = USER.model_copy(update={"attributes": attributes, "version": 2})
    for event in (
        UserProfileChanged(user=user, previous={"attributes": attributes, "display_name": 'a"previous"'}),
        UserDeactivated(user=user, previous={}, reason='"user"'),
        UserRegistered(user=user),
    ):
        [change] = read_records([record(event)])
        assert isinstance(change, DecodedEvent)
        assert change.document == user.model_dump_json().encode()
        assert change.previous == event.previous
        assert change.reason == getattr(event, "reason", None)


VALUE = json.loads(REGISTERED.value or b"")
FIRST = USER.model_copy(update={"email": "first@example.com"}).model_dump_json()
WRITTEN = USER.model_dump_json()
OTHERWISE = {
    "indented": json.dumps(VALUE, indent=1),
    "a space behind": f'{{"user":{WRITTEN} ,"previous":{{}}}}',
    "a space inside": f'{{"user":{WRITTEN.replace(":", ": ", 1)},"previous":{{}}}}',
    "escaped": f'{{"user":{WRITTEN},"previous":{{}}}}'.replace("User", "\\u0055ser"),
    "turned": json.dumps({"previous": {}, "user": VALUE["user"]}),
    "number otherwise": f'{{"user":{WRITTEN.replace("[1,", "[1.0,")},"previous":{{}}}}'.replace("1.0", "1.00"),
    "fields turned": json.dumps({"user": dict(reversed(VALUE["user"].items())), "previous": {}}),
    "a user before": f'{{"user":{FIRST},"user":{WRITTEN},"previous":{{}}}}',
    "nobody before": f'{{"user":{{}},"user":{WRITTEN},"previous":{{}}}}',
    "a user behind": f'{{"user":{FIRST},"previous":{{}},"user":{WRITTEN}}}',
    "a user behind, escaped": f'{{"user":{FIRST},"previous":{{}},"us\\u0065r":{WRITTEN}}}',
    "a user behind, spaced": f'{{"user":{FIRST},"previous":{{}},"user" :{WRITTEN}}}',
    "attributes twice": f'{{"user":{{"attributes":1,{WRITTEN[1:]},"previous":{{}}}}',
    "previous twice": f'{{"user":{WRITTEN},"previous":1,"previous":{{}}}}',
}


@pytest.mark.parametrize("text", OTHERWISE.values(), ids=OTHERWISE.keys())
def test_the_document_of_a_value_written_otherwise_is_written_anew(text: str) -> None:
    item = with_value(text.encode())
    assert same(item)
    [change] = read_records([item])
    assert isinstance(change, DecodedEvent)
    assert json.loads(change.document) == VALUE["user"]
    assert change.document.decode() == WRITTEN.replace("[1,", "[1.0,") if "1.00" in text else WRITTEN


@pytest.mark.parametrize("depth", [10, 190, 195, 196, 197, 198, 199, 200, 201, 202, 1000, 100_000])
def test_how_deep_json_may_be_is_the_same_alone_and_among_others(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    assert same(with_value(f'{{"user":{WRITTEN.replace("[1,", f"[{deep},")},"previous":{{}}}}'.encode()))
    assert same(with_value(f'{{"user":{WRITTEN},"previous":{{"a":{deep}}}}}'.encode()))


def test_one_awkward_record_keeps_its_place_among_many() -> None:
    some = list(lives(30, 300, seed=3))
    for at in (0, 17, 150, len(some) - 1):
        some[at] = replace(some[at], key=b"nobody")
    items = read_records(some)
    assert shown(items) == shown([read_record(item) for item in some])
    assert [item.record for item in items] == some
    assert sum(isinstance(item, Poison) for item in items) >= 4
