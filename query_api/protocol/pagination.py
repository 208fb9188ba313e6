"""Pages by key: sorts, positions, cursors and the body of a page.

A page begins after the last row of the one before, by that row's sort key and id; so it costs the same at any depth,
and a row that stays where it is appears exactly once, whatever is written in between.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import quote
from uuid import UUID

from chassis.http.problems import Problem
from query_api.protocol.cursors import CursorSeal, UnreadableCursorError
from query_api.protocol.exchange import RawHeaders
from query_api.protocol.parameters import Parameter, whole_number
from query_api.protocol.problems import SKIP_TOO_DEEP, invalid_cursor

DEFAULT_LIMIT: Final = 50
#: 200 documents are some 100 KiB, and the database reads as many index entries.
LARGEST_LIMIT: Final = 200
#: Rows read and thrown away: ten thousand take some milliseconds, and nobody pages further by hand.
DEEPEST_SKIP: Final = 10_000

LIMIT: Final = Parameter(
    name="limit",
    read=whole_number(least=1, most=LARGEST_LIMIT),
    schema={"type": "integer", "minimum": 1, "default": DEFAULT_LIMIT},
    description=f"Entries a page. More than {LARGEST_LIMIT} is served as {LARGEST_LIMIT}.",
    example=DEFAULT_LIMIT,
)
CURSOR: Final = Parameter(
    name="cursor",
    read=str,
    schema={"type": "string", "minLength": 1},
    description="`next_cursor` of the page before. It carries sort and filters: leave them out, or repeat them as they"
    " were.",
    example="AQJrMc3Zb2k",
)


def _skip(text: str) -> int:
    skip = whole_number(least=0, most=DEEPEST_SKIP + 1)(text)
    if skip > DEEPEST_SKIP:
        raise Problem(
            SKIP_TOO_DEEP,
            f"skip may be at most {DEEPEST_SKIP}; follow next_cursor to go further",
            errors=[{"detail": f"is more than {DEEPEST_SKIP}", "parameter": "skip"}],
        )
    return skip


SKIP: Final = Parameter(
    name="skip",
    read=_skip,
    # No default is declared: generated clients send it, and skip does not go with a cursor.
    schema={"type": "integer", "minimum": 0, "maximum": DEEPEST_SKIP},
    description=f"Entries to leave out from the start, at most {DEEPEST_SKIP}; not together with `cursor`.",
    example=100,
)


#: Filters and sort of a list, and the position of the last row seen: what a cursor carries.
FilterValue = str | datetime | tuple[UUID, ...]
Filters = Mapping[str, FilterValue]
_ID_BYTES: Final = 16


class Place(NamedTuple):
    """Where a page begins: after `position` in the list with this sort and these filters."""

    sort: str
    filters: Filters
    position: bytes


def seal_place(seal: CursorSeal, place: Place, *, address: bytes) -> str:
    """The cursor of a place in the list at `address`."""
    # JSON text holds no NUL, so the first one ends it.
    return seal.seal(_said(place) + b"\0" + place.position, address=address)


def _said(place: Place) -> bytes:
    if not place.filters:
        return b'["%b",{}]' % place.sort.encode()
    filters = {name: _written(value) for name, value in place.filters.items()}
    return json.dumps([place.sort, filters], separators=(",", ":")).encode()


@lru_cache(maxsize=512)  # sorts and filters that clients page through at a time
def _read_said(said: bytes) -> tuple[str, Filters]:
    sort, filters = json.loads(said)
    return sort, MappingProxyType({name: _understood(written) for name, written in filters.items()})


def open_place(seal: CursorSeal, cursor: str, *, address: bytes) -> Place:
    """Read a cursor that was made for `address`.

    Raises:
        Problem: 400 `invalid-cursor`.
    """
    if not cursor:
        raise invalid_cursor("is empty; leave it out for the first page")
    try:
        said, _, position = seal.open(cursor, address=address).partition(b"\0")
    except UnreadableCursorError as error:
        raise invalid_cursor(str(error)) from error
    return Place(*_read_said(said), position)


def _written(value: FilterValue) -> str | list[str]:
    match value:
        case datetime():
            return [value.isoformat()]
        case tuple():
            return ["", base64.b64encode(b"".join(identifier.bytes for identifier in value)).decode("ascii")]
        case _:
            return value


def _understood(written: str | list[str]) -> FilterValue:
    match written:
        case [time]:
            return datetime.fromisoformat(time)
        case [_, packed]:
            raw = base64.b64decode(packed)
            return tuple(UUID(bytes=raw[start : start + _ID_BYTES]) for start in range(0, len(raw), _ID_BYTES))
        case _:
            return str(written)


class Page(NamedTuple):
    """One page as JSON, and where the next begins, if there is one."""

    body: bytes
    next_cursor: str | None

    def link(self, path: str, limit: int) -> RawHeaders:
        """The Link header of a page that has a next one; the cursor says the rest."""
        if self.next_cursor is None:
            return []
        return [(b"link", f'<{quote(path)}?limit={limit}&cursor={self.next_cursor}>; rel="next"'.encode("ascii"))]


def put_together(documents: bytes, next_cursor: str | None) -> Page:
    """The page around the documents as they are stored, with commas between them."""
    if next_cursor is None:
        return Page(b'{"data":[' + documents + b'],"next_cursor":null,"has_more":false}', None)
    body = b"".join((b'{"data":[', documents, b'],"next_cursor":"', next_cursor.encode(), b'","has_more":true}'))
    return Page(body, next_cursor)
