"""Decode a slice of records at once: the short way for what looks exactly as the relay writes it.

A rebuild reads millions of records that all look the same, and one after the other they took most of its time. Here a
slice is read column by column, so that what has to be said of every record is said in one call: of all ids, all times,
all names of headers. A slice in which something does not look so is halved until that record is alone, and that goes to
the catalogue (projectors/decoding/records.py). What becomes of a record never depends on its neighbours, and
tests/unit/projectors/test_records.py holds this way to the catalogue's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from functools import lru_cache
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, Final

import msgspec
from asyncpg.pgproto import pgproto
from pydantic_core import from_json, to_json

from events.envelope import HEADER_NAMES
from events.topics import MAX_MESSAGE_BYTES
from events.user_events import USER_EVENTS
from projectors.decoding.records import MAX_VERSION, Change, Poison, Record, UserData, read_record

#: As the relay writes them; a trace may follow.
_HEADERS: Final = len(HEADER_NAMES)
_TRACE: Final = ("traceparent",)
#: What ids and times look like once every digit, or every hexadecimal one, is a 0.
_ID: Final = b"00000000-0000-0000-0000-000000000000"
_TIME: Final = b"0000-00-00T00:00:00.000000Z"
_HEX_TO_0: Final = bytes.maketrans(b"0123456789abcdef", b"0" * 16)
_DIGITS_TO_0: Final = bytes.maketrans(b"0123456789", b"0" * 10)
_SEQUENCE_DIGITS: Final = 20
#: Where a time has the tens of its minutes and seconds, and up to where it names an hour.
_TENS: Final = (len("2026-11-29T12:"), len("2026-11-29T12:00:"))
_HOUR: Final = slice(len("2026-11-29T12"))
#: What is around a user and the user's old values.
_BEFORE: Final = len(b'{"user":')
_BEHIND: Final = len(b',"previous":}')


class _Event(msgspec.Struct, gc=False):
    """The value of a record."""

    user: UserData
    previous: msgspec.Raw


_decode: Final = msgspec.json.Decoder(_Event).decode
_encode_lines: Final = msgspec.json.Encoder().encode_lines
_columns: Final = attrgetter("key", "value", "headers")


class _NotPlainError(ValueError):
    """Something does not look as the relay writes it, or is wrong; of which record is not known."""


def read_records(records: Sequence[Record]) -> list[Change | Poison]:
    """Decode records, in their order; never raises for what is in them."""
    if not any(record.value is None for record in records):
        return _read(records)
    items: list[Change | Poison] = []
    for erased, run in groupby(records, lambda record: record.value is None):
        some = list(run)
        items += map(read_record, some) if erased else _read(some)
    return items


def _read(records: Sequence[Record]) -> list[Change | Poison]:
    try:
        return _read_plain(records)
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError):
        if len(records) == 1:
            return [read_record(records[0])]
    middle = len(records) // 2
    return [*_read(records[:middle]), *_read(records[middle:])]


def _read_plain(records: Sequence[Record]) -> list[Change | Poison]:
    """The changes of records that all look as the relay writes them.

    Raises:
        msgspec.DecodeError, ValueError, TypeError, RecursionError: one of them does not.
    """
    keys, values, headers = zip(*map(_columns, records), strict=True)
    types, versions = _read_headers(headers, keys)
    ids = list(map(bytes.decode, keys))
    users, documents, previous = _read_values(values, ids, versions)
    return list(map(Change, records, map(pgproto.UUID, ids), versions, types, users, documents, previous))


def _read_headers(headers: Sequence[Any], keys: Sequence[bytes]) -> tuple[list[str], list[int]]:
    """Types and versions.

    What is not read is looked at all the same, so that every projection parks the same records.
    """
    traces = list(chain.from_iterable(one[_HEADERS:] for one in headers if len(one) != _HEADERS))
    if traces:
        headers = [one[:_HEADERS] for one in headers]
    names, values = zip(*chain(chain.from_iterable(headers), traces), strict=True)
    _require(names == HEADER_NAMES * len(keys) + _TRACE * len(traces), b"".join(values).isascii())
    end = len(keys) * _HEADERS
    ids, types, subjects, times, sequences = (values[at:end:_HEADERS] for at in (1, 3, 4, 5, 6))
    _require(
        subjects == keys,
        _are_ids(ids),
        _are_ids(keys),
        _are_times(map(bytes.decode, times)),
        set(map(len, sequences)) == {_SEQUENCE_DIGITS},
        b"".join(sequences).isdigit(),
    )
    versions = list(map(int, sequences))
    names_of = {type_: type_.decode() for type_ in set(types)}
    _require(min(versions) > 0, max(versions) <= MAX_VERSION, all(map(USER_EVENTS.is_newest, names_of.values())))
    return [names_of[type_] for type_ in types], versions


def _read_values(
    values: Sequence[bytes], ids: list[str], versions: list[int]
) -> tuple[list[UserData], list[bytes], list[dict[str, Any]]]:
    """Users, their documents, and old values."""
    events = list(map(_decode, values))
    lines = b"\n".join((*values, b""))
    # What was read, written again, is what came: nothing was overlooked, and the user's place is known.
    _require(_encode_lines(events) == lines, b"\\u0000" not in lines, max(map(len, values)) <= MAX_MESSAGE_BYTES)
    users = [event.user for event in events]
    _require(
        [user.id for user in users] == ids,
        [user.version for user in users] == versions,
        _are_times(chain.from_iterable((user.created_at, user.updated_at) for user in users)),
        all(to_json(_object(text)) == text for text in {bytes(user.attributes) for user in users}),
    )
    previous = [bytes(event.previous) for event in events]
    documents = [value[_BEFORE : -_BEHIND - len(old)] for value, old in zip(values, previous, strict=True)]
    return users, documents, [_object(text) for text in previous]


def _object(text: bytes) -> dict[str, Any]:
    if text == b"{}":
        return {}
    # As deep as it is in the value: how deep JSON may be is the same for both ways.
    found: dict[str, Any] = from_json(b"[[%b]]" % text, allow_inf_nan=False)[0][0]
    _require(type(found) is dict)
    return found


def _are_ids(texts: Sequence[bytes]) -> bool:
    """Whether each is an id in its one written form."""
    return set(map(len, texts)) == {len(_ID)} and b"".join(texts).translate(_HEX_TO_0) == _ID * len(texts)


def _are_times(texts: Iterable[str]) -> bool:
    """Whether each is a time in its one written form."""
    times = set(texts)
    joined = "".join(times).encode()
    return (
        set(map(len, times)) == {len(_TIME)}
        and joined.translate(_DIGITS_TO_0) == _TIME * len(times)
        and all(max(joined[tens :: len(_TIME)]) <= ord("5") for tens in _TENS)
        and all(map(_is_hour, {time[_HOUR] for time in times}))
    )


# Of days that exist, and hours that a day has.
@lru_cache(maxsize=256)
def _is_hour(text: str) -> bool:
    try:
        return bool(date.fromisoformat(text[:10])) and text[11:] < "24"
    except ValueError:
        return False


def _require(*conditions: bool) -> None:
    if not all(conditions):
        raise _NotPlainError
