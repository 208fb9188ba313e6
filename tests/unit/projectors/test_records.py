"""The short way of decoding: it reads what the catalogue would read, and leaves to the catalogue all else."""

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.user_events import PublicUser, UserDeactivated, UserErased, UserProfileChanged, UserRegistered
from projectors.consumer import records
from projectors.consumer.records import Change, Poison, read_record
from projectors.users import document
from tests.integration.projectors.stream import FakeRecord, lives, new_user, record

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
REGISTERED = record(UserRegistered(user=USER))


def long_way(item: FakeRecord) -> Change | Poison:
    """What the catalogue and the envelope alone say of the record."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_plain_headers", lambda *_: None)
        patch.setattr(records, "_plain_data", lambda *_: None)
        return read_record(item)


def with_value(value: bytes) -> FakeRecord:
    return replace(REGISTERED, value=value)


def with_headers(at: int, *instead: tuple[str, bytes | None]) -> FakeRecord:
    return replace(REGISTERED, headers=[*REGISTERED.headers[:at], *instead, *REGISTERED.headers[at + 1 :]])


def test_whatever_the_relay_publishes_takes_the_short_way_and_says_the_same() -> None:
    for item in lives(20, 200, seed=1):
        change = read_record(item)
        assert change == long_way(item)
        assert isinstance(change, Change)
        if item.value is not None:
            assert records._plain_data(change.type, item.value, item.key) == change.data


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
    assert same(read_record(item), long_way(item))


@given(st.binary(max_size=3), st.integers(0, 400), st.integers(0, 5))
@example(b"\xff", 30, 1)
def test_a_value_with_any_bytes_altered_is_read_as_the_catalogue_reads_it(some: bytes, at: int, cut: int) -> None:
    assert REGISTERED.value is not None
    item = with_value(REGISTERED.value[:at] + some + REGISTERED.value[at + cut :])
    assert same(read_record(item), long_way(item))


@pytest.mark.parametrize("name", PublicUser.model_fields)
def test_a_field_with_an_awkward_text_is_read_as_the_catalogue_reads_it(name: str) -> None:
    assert REGISTERED.value is not None
    value = json.loads(REGISTERED.value)
    for text in TEXTS:
        value["user"][name] = text
        item = with_value(json.dumps(value, separators=(",", ":")).encode())
        assert same(read_record(item), long_way(item)), text


@pytest.mark.parametrize("version", [-1, 0, 2, 2**63, 2**64])
def test_a_version_that_is_not_the_headers_is_read_as_the_catalogue_reads_it(version: int) -> None:
    assert REGISTERED.value is not None
    item = with_value(REGISTERED.value.replace(b'"version":1', b'"version":%d' % version))
    assert isinstance(read_record(item), Poison)
    assert same(read_record(item), long_way(item))


@pytest.mark.parametrize("name", [name for name, _ in REGISTERED.headers])
def test_a_header_with_an_awkward_text_is_read_as_the_envelope_reads_it(name: str) -> None:
    at = [name for name, _ in REGISTERED.headers].index(name)
    texts = [*TEXTS, "0", "-1", str(2**63 - 1), str(2**63), "9" * 5000, "0" * 30 + "1", "muster.user.registered.v2"]
    for value in [None, b"\xff", *(text.encode() for text in texts)]:
        item = with_headers(at, (name, value))
        assert same(read_record(item), long_way(item)), value


@given(data=st.data())
def test_headers_altered_in_any_way_are_read_as_the_envelope_reads_them(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(REGISTERED.headers) - 1))
    name, old = REGISTERED.headers[at]
    assert old is not None
    cut, end = sorted(data.draw(st.tuples(st.integers(0, len(old)), st.integers(0, len(old)))))
    new = (data.draw(st.sampled_from([name, "ce_another"])), old[:cut] + data.draw(st.binary(max_size=3)) + old[end:])
    item = with_headers(at, *data.draw(st.sampled_from([(), (new,), (new, (name, old)), ((name, old), new)])))
    assert same(read_record(item), long_way(item))


def same(one: Change | Poison, other: Change | Poison) -> bool:
    """As texts: a number that is beyond JSON's range is not equal to itself."""
    return repr(one) == repr(other)


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
    assert isinstance(change, Change)
    assert (change.user_id, change.version, change.data) == (USER.id, 3, None)


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
def test_the_document_is_cut_out_exactly(attributes: dict[str, Any]) -> None:
    user = USER.model_copy(update={"attributes": attributes, "version": 2})
    for event in (
        UserProfileChanged(user=user, previous={"attributes": attributes, "display_name": 'a"previous"'}),
        UserDeactivated(user=user, previous={}, reason='"user"'),
        UserRegistered(user=user),
    ):
        change = read_record(record(event))
        assert isinstance(change, Change)
        assert document(change) == user.model_dump_json().encode()


def test_the_document_of_a_value_written_otherwise_is_written_anew() -> None:
    assert REGISTERED.value is not None
    value = json.loads(REGISTERED.value)
    text = json.dumps(value, indent=1)
    turned = json.dumps({"previous": {}, "user": value["user"]})
    twice = f'{{"user":{{}},"user":{json.dumps(value["user"])},"previous":{{}}}}'
    for other in (text, turned, twice):
        change = read_record(with_value(other.encode()))
        assert isinstance(change, Change)
        assert document(change) == USER.model_dump_json().encode()


@pytest.mark.parametrize("key", ['"user"', '"us\\u0065r"', '"user" '])
def test_of_a_user_that_is_there_twice_the_document_shows_the_one_that_counts(key: str) -> None:
    assert REGISTERED.value is not None
    first = USER.model_copy(update={"email": "first@example.com"}).model_dump_json()
    text = f'{{"user":{first},"previous":{{}},{key}:{USER.model_dump_json()}}}'
    change = read_record(with_value(text.encode()))
    assert isinstance(change, Change)
    assert change.data is not None
    assert change.data["user"]["email"] == USER.email
    assert document(change) == USER.model_dump_json().encode()


def test_the_document_ends_where_the_user_does_whatever_is_behind() -> None:
    user = USER.model_copy(update={"attributes": {"a": {}, "previous": 1}})
    written = user.model_dump_json()
    item = record(UserDeactivated(user=user))
    for rest in ("", ',"reason":"x","previous":{}', ',"reason":null', ',"previous":{"updated_at":"x"},"reason":"x"'):
        change = read_record(replace(item, value=f'{{"user":{written}{rest}}}'.encode()))
        assert isinstance(change, Change)
        assert document(change) == written.encode()
