"""Places at which pages of users begin: sort, filters and the last row before, and their form in a cursor.

A position is the id's 16 bytes and then those of the sort key. PostgreSQL writes it (`position_sql`), a cursor carries
it unread, and `PagePlace.after` decodes it for the next statement.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple
from uuid import UUID

from query_api.protocol.cursors import CursorSeal
from query_api.users.filters import SORTS, Filters, FilterValue, Sort

#: The list that cursors of users are bound to.
_LIST: Final = b"users"
_ID_BYTES: Final = 16
#: PostgreSQL sends a time as microseconds since then.
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


class PagePlace(NamedTuple):
    """A page's place: after `position` in the list with this sort and these filters."""

    sort: str
    filters: Filters
    #: Empty for the first page.
    position: bytes

    @property
    def after(self) -> tuple[datetime | str, UUID]:
        """The sort key and the id after which the page begins."""
        identifier, key = UUID(bytes=self.position[:_ID_BYTES]), self.position[_ID_BYTES:]
        if SORTS[self.sort].is_time:
            return _EPOCH + timedelta(microseconds=int.from_bytes(key, "big", signed=True)), identifier
        return key.decode(), identifier

    def next_cursor(self, position: bytes, seal: CursorSeal) -> str:
        """The cursor of the page after `position` in the same list."""
        # JSON text holds no NUL, so the first one ends it.
        return seal.seal(_encode(self.sort, self.filters) + b"\0" + position, bound_to=_LIST)


def position_sql(sort: Sort, identifier: str, key: str) -> str:
    """SQL for the position of the row with this id and this sort key."""
    return f"uuid_send({identifier}) || " + (
        f"timestamptz_send({key})" if sort.is_time else f"convert_to({key}, 'UTF8')"
    )


def open_cursor(cursor: str, seal: CursorSeal) -> PagePlace:
    """The place that a cursor holds.

    Raises:
        Problem: 400 `invalid-cursor`.
    """
    encoded, _, position = seal.open(cursor, bound_to=_LIST).partition(b"\0")
    sort, filters = _decode(encoded)
    return PagePlace(sort, filters, position)


def _encode(sort: str, filters: Filters) -> bytes:
    if not filters:
        return b'["%b",{}]' % sort.encode()
    values = {name: _encode_value(value) for name, value in filters.items()}
    return json.dumps([sort, values], separators=(",", ":")).encode()


@lru_cache(maxsize=512)  # sorts and filters that clients page through at a time
def _decode(encoded: bytes) -> tuple[str, Filters]:
    sort, filters = json.loads(encoded)
    return sort, MappingProxyType({name: _decode_value(value) for name, value in filters.items()})


def _encode_value(value: FilterValue) -> str | list[str]:
    match value:
        case datetime():
            return [value.isoformat()]
        case tuple():
            return ["", base64.b64encode(b"".join(identifier.bytes for identifier in value)).decode("ascii")]
        case _:
            return value


def _decode_value(encoded: str | list[str]) -> FilterValue:
    match encoded:
        case [time]:
            return datetime.fromisoformat(time)
        case [_, packed]:
            raw = base64.b64decode(packed)
            return tuple(UUID(bytes=raw[start : start + _ID_BYTES]) for start in range(0, len(raw), _ID_BYTES))
        case _:
            return str(encoded)
