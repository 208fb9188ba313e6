"""Pages by key: the parameters of a page, and its body.

A page begins after the last row of the page before, by that row's sort key and id. So a page costs the same at any
depth, and a row that stays where it is appears exactly once, whatever is written in between.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import quote

from chassis.http.problems import Problem
from query_api.protocol.exchange import RawHeaders
from query_api.protocol.parameters import Parameter, whole_number
from query_api.protocol.problems import SKIP_TOO_DEEP

DEFAULT_LIMIT: Final = 50
#: 200 documents are some 100 KiB, and the database reads as many index entries.
LARGEST_LIMIT: Final = 200
#: Rows that the database reads and throws away: ten thousand take some milliseconds, and nobody pages further by hand.
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
    # No default is declared: generated clients would send it, and skip does not go with a cursor.
    schema={"type": "integer", "minimum": 0, "maximum": DEEPEST_SKIP},
    description=f"Entries to leave out from the start, at most {DEEPEST_SKIP}; not together with `cursor`.",
    example=100,
)


class Page(NamedTuple):
    """One page as JSON, and where the next begins, if there is one."""

    body: bytes
    next_cursor: str | None

    @classmethod
    def of(cls, documents: bytes, next_cursor: str | None) -> Page:
        """The page of documents as they are stored, with commas between them."""
        if next_cursor is None:
            return cls(b'{"data":[' + documents + b'],"next_cursor":null,"has_more":false}', None)
        body = b"".join((b'{"data":[', documents, b'],"next_cursor":"', next_cursor.encode(), b'","has_more":true}'))
        return cls(body, next_cursor)

    def link(self, path: str, limit: int) -> RawHeaders:
        """The Link header, empty on the last page; the cursor carries sort and filters."""
        if self.next_cursor is None:
            return []
        return [(b"link", f'<{quote(path)}?limit={limit}&cursor={self.next_cursor}>; rel="next"'.encode("ascii"))]
