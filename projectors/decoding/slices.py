"""Decode a slice of records at once: the fast path for records that are exactly as the relay writes them.

A rebuild reads millions of records that are all alike, and to read them one after the other took most of its time. Here
a slice is read column by column: one call checks all ids, one all times, one all names of headers. A slice in which
something is otherwise is halved until that record is alone, and that one goes to the catalogue
(projectors/decoding/records.py). What becomes of a record never depends on its neighbours, and
tests/unit/projectors/decoding/test_records.py holds the fast path to the catalogue's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from itertools import chain, combinations, groupby
from operator import attrgetter, itemgetter
from typing import Any, Final

import msgspec
from asyncpg.pgproto import pgproto
from pydantic_core import from_json

from events.envelope import HEADER_NAMES, OPTIONAL_HEADERS, is_actor
from events.topics import MAX_MESSAGE_BYTES
from projectors.decoding.records import MAX_VERSION, DecodedEvent, Poison, Record, RecordDecoder
from projectors.decoding.states import state_of
from projectors.decoding.subject import Subject

#: The headers that the relay writes, and those that it may write behind them.
_HEADERS: Final = len(HEADER_NAMES)
_OPTIONAL: Final = frozenset(
    chain.from_iterable(combinations(OPTIONAL_HEADERS, some) for some in range(1, len(OPTIONAL_HEADERS) + 1))
)
_ACTORS: Final = frozenset(OPTIONAL_HEADERS) - {"traceparent"}
#: The form of ids and times once every digit, or every hexadecimal one, is a 0.
_ID: Final = b"00000000-0000-0000-0000-000000000000"
_TIME: Final = b"0000-00-00T00:00:00.000000Z"
_HEX_TO_0: Final = bytes.maketrans(b"0123456789abcdef", b"0" * 16)
_DIGITS_TO_0: Final = bytes.maketrans(b"0123456789", b"0" * 10)
_SEQUENCE_DIGITS: Final = 20
#: The places of a time that hold the tens of its minutes and seconds, and the end of its hour.
_TENS: Final = (len("2026-11-29T12:"), len("2026-11-29T12:00:"))
_HOUR: Final = slice(len("2026-11-29T12"))
#: The length of what is behind the public document, beside the old values.
_BEHIND: Final = len(b',"previous":}')

_encode_lines: Final = msgspec.json.Encoder().encode_lines
_columns: Final = attrgetter("key", "value", "headers")
_name: Final = itemgetter(0)


class _NotPlainError(ValueError):
    """Something is not as the relay writes it, or is wrong; of which record is not known."""


class SliceDecoder:
    """Decodes the records of one kind of subject, many at once."""

    def __init__(self, subject: Subject) -> None:
        """Derive from the subject what its events look like."""
        self._one = RecordDecoder(subject)
        self._is_newest = subject.catalogue.is_newest
        self._sources = {subject.catalogue.source.encode()}
        state, noun = state_of(subject.document), subject.noun
        members = [("state", state.struct), ("previous", msgspec.Raw)]
        event = msgspec.defstruct("Event", members, rename={"state": noun}, gc=False)
        self._decode = msgspec.json.Decoder(event).decode
        self._before = len(b'{"%b":' % noun.encode())
        self._times = [attrgetter(name) for name in state.times]
        self._other_ids = [attrgetter(name) for name in state.ids if name != "id"]
        self._free = [(attrgetter(name), is_as_written) for name, is_as_written in state.free.items()]

    def read(self, records: Sequence[Record]) -> list[DecodedEvent | Poison]:
        """Decode records, in their order; never raises for what is in them."""
        if not any(record.value is None for record in records):
            return self._read(records)
        items: list[DecodedEvent | Poison] = []
        for erased, run in groupby(records, lambda record: record.value is None):
            some = list(run)
            items += map(self._one.read, some) if erased else self._read(some)
        return items

    def _read(self, records: Sequence[Record]) -> list[DecodedEvent | Poison]:
        try:
            return self._read_plain(records)
        except (msgspec.DecodeError, ValueError, TypeError, RecursionError):
            if len(records) == 1:
                return [self._one.read(records[0])]
        middle = len(records) // 2
        return [*self._read(records[:middle]), *self._read(records[middle:])]

    def _read_plain(self, records: Sequence[Record]) -> list[DecodedEvent | Poison]:
        """The events of records that are all as the relay writes them.

        Raises:
            msgspec.DecodeError, ValueError, TypeError, RecursionError: one of them is not.
        """
        keys, values, headers = zip(*map(_columns, records), strict=True)
        types, versions = self._read_headers(headers, keys)
        ids = list(map(bytes.decode, keys))
        states, documents, previous = self._read_values(values, ids, versions)
        return list(map(DecodedEvent, records, map(pgproto.UUID, ids), versions, types, states, documents, previous))

    def _read_headers(self, headers: Sequence[Any], keys: Sequence[bytes]) -> tuple[list[str], list[int]]:
        """Types and versions.

        What nobody reads is looked at all the same, so that every projection parks the same records.
        """
        optional = [one[_HEADERS:] for one in headers if len(one) != _HEADERS]
        if optional:
            headers = [one[:_HEADERS] for one in headers]
        names, values = zip(*chain.from_iterable(chain(headers, optional)), strict=True)
        end = len(keys) * _HEADERS
        actors = {value for name, value in zip(names[end:], values[end:], strict=True) if name in _ACTORS}
        _require(
            names[:end] == HEADER_NAMES * len(keys),
            {tuple(map(_name, one)) for one in optional} <= _OPTIONAL,
            b"".join(values).isascii(),
            all(is_actor(actor.decode()) for actor in actors),
        )
        ids, sources, types, subjects, times, sequences = (values[at:end:_HEADERS] for at in (1, 2, 3, 4, 5, 6))
        _require(
            set(sources) == self._sources,
            subjects == keys,
            _are_ids(ids),
            _are_ids(keys),
            _are_times(map(bytes.decode, times)),
            set(map(len, sequences)) == {_SEQUENCE_DIGITS},
            b"".join(sequences).isdigit(),
        )
        versions = list(map(int, sequences))
        names_of = {type_: type_.decode() for type_ in set(types)}
        _require(min(versions) > 0, max(versions) <= MAX_VERSION, all(map(self._is_newest, names_of.values())))
        return [names_of[type_] for type_ in types], versions

    def _read_values(
        self, values: Sequence[bytes], ids: list[str], versions: list[int]
    ) -> tuple[list[Any], list[bytes], list[dict[str, Any]]]:
        """States, documents, and old values."""
        events: list[Any] = list(map(self._decode, values))
        lines = b"\n".join((*values, b""))
        # The events are written again and compared: nothing was overlooked, and the document's place is known.
        _require(_encode_lines(events) == lines, b"\\u0000" not in lines, max(map(len, values)) <= MAX_MESSAGE_BYTES)
        states = [event.state for event in events]
        _require(
            [state.id for state in states] == ids,
            [state.version for state in states] == versions,
            _are_times(chain.from_iterable(map(time, states) for time in self._times)),
            all(_are_ids(_texts(id_, states)) for id_ in self._other_ids),
            all(all(map(is_as_written, {bytes(free(one)) for one in states})) for free, is_as_written in self._free),
        )
        previous = [bytes(event.previous) for event in events]
        before = self._before
        documents = [value[before : -_BEHIND - len(old)] for value, old in zip(values, previous, strict=True)]
        return states, documents, [_object(text) for text in previous]


def _object(text: bytes) -> dict[str, Any]:
    if text == b"{}":
        return {}
    # It is as deep here as in the value: how deep JSON may be is the same for slices and for the catalogue.
    found: dict[str, Any] = from_json(b"[[%b]]" % text, allow_inf_nan=False)[0][0]
    _require(type(found) is dict)
    return found


def _texts(field: Any, states: Sequence[Any]) -> list[bytes]:
    return [text.encode() for text in map(field, states) if text is not None]


def _are_ids(texts: Sequence[bytes]) -> bool:
    """Whether each is an id in its one written form."""
    return set(map(len, texts)) <= {len(_ID)} and b"".join(texts).translate(_HEX_TO_0) == _ID * len(texts)


def _are_times(texts: Iterable[str | None]) -> bool:
    """Whether each is a time in its one written form, or none at all."""
    times = [time for time in set(texts) if time is not None]
    joined = "".join(times).encode()
    return (
        set(map(len, times)) <= {len(_TIME)}
        and joined.translate(_DIGITS_TO_0) == _TIME * len(times)
        and all(max(joined[tens :: len(_TIME)], default=0) <= ord("5") for tens in _TENS)
        and all(map(_is_hour, {time[_HOUR] for time in times}))
    )


def _is_hour(text: str) -> bool:
    """Whether the day exists and the hour is below 24."""
    try:
        return bool(date.fromisoformat(text[:10])) and text[11:] < "24"
    except ValueError:
        return False


def _require(*conditions: bool) -> None:
    if not all(conditions):
        raise _NotPlainError
