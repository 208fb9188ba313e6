"""GET /users/digest: counts and digests of ranges of users, by which a subscriber compares its copy with the read side.

A range is divided evenly between the least and the greatest id that are in it, since most ids begin with a time and lie
close together. With three parts or more the two outermost hold nobody: so a single user's range is found by one
question. The digest of a range is the XOR of its users', so it is the same in whatever order they are read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final
from uuid import UUID

from chassis.http.problems import invalid_parameter
from chassis.identifiers import read_id
from query_api.protocol.exchange import NO_STORE, QueryAnswer, QueryExchange
from query_api.protocol.parameters import Parameter, Parameters, whole_number
from query_api.reading.consistency import ConsistentReads
from query_api.reading.database import FetchedRows
from query_api.reading.reader import Reader
from query_api.reading.serving import View
from query_api.reading.versions import NOT_BEHIND, WantedVersions, unless_behind
from read_model import users
from read_model.users import users_tables

MOST_PARTS: Final = 256
_LAST_ID: Final = 2**128 - 1
#: The parts at the two ends of a range; the others divide what is between.
_OUTERMOST: Final = 2
#: The digest of nobody.
_NOBODY: Final = "0" * 32


def _read_parts(text: str) -> int:
    parts = whole_number(least=1, most=MOST_PARTS + 1)(text)
    if parts > MOST_PARTS:
        raise ValueError(f"must be at most {MOST_PARTS}")
    return parts


_ID_SCHEMA: Final = {"type": "string", "format": "uuid"}
FROM: Final = Parameter(
    name="from",
    read=read_id,
    schema=_ID_SCHEMA,
    description="First id, inclusive; by default the first there is.",
    example="018f3c5a-7b1e-7cc2-9a51-0242ac120002",
)
TO: Final = Parameter(
    name="to",
    read=read_id,
    schema=_ID_SCHEMA,
    description="Last id, exclusive; by default behind all.",
    example="018f3c5a-7b1e-7cc2-9a51-0242ac120003",
)
PARTS: Final = Parameter(
    name="parts",
    read=_read_parts,
    schema={"type": "integer", "minimum": 1, "maximum": MOST_PARTS, "default": 1},
    description="Into how many parts to divide the range.",
    example=16,
)


class UserDigest:
    """Digests of ranges of users."""

    path: ClassVar = "/users/digest"
    method: ClassVar = "GET"
    projection: ClassVar = users.SCHEMA.name
    parameters: ClassVar = Parameters((FROM, TO, PARTS))

    def __init__(self, consistent: ConsistentReads, reader: Reader, *, digest_ms: int) -> None:
        """Digesting a range may take `digest_ms`."""
        self._consistent = consistent
        self._reader = reader
        self._digest_ms = digest_ms

    async def answer(self, exchange: QueryExchange) -> QueryAnswer:
        """One entry for each part, in the order of ids; each begins where the one before it ends."""
        exchange.require_acceptable()
        values = self.parameters.read(exchange.query)
        start, end = values.get("from"), values.get("to")
        if start is not None and end is not None and start > end:
            raise invalid_parameter("from", f"is greater than to ({end})")
        range_ = _range(start, end)

        async def attempt(view: View, wanted: WantedVersions) -> QueryAnswer | None:
            cuts = await self._cuts(view, range_, end, values.get("parts", 1))
            arguments = [*range_, cuts, list(wanted), list(wanted.values())]
            rows = await self._reader.fetch_limited(_digest_sql(view.generation), arguments, limit_ms=self._digest_ms)
            if rows and rows[0]["part"] is None:
                return None
            return _answer(exchange, view, [start, *cuts, end], rows)

        return await self._consistent.read_when_fresh(exchange, self.projection, attempt)

    async def _cuts(self, view: View, range_: tuple[UUID, UUID], end: UUID | None, parts: int) -> list[UUID]:
        """The ids at which to divide the range; the digests are right wherever that is."""
        if parts == 1:
            return []
        if end and range_[0] > range_[1]:
            return [end] * (parts - 1)
        [(least, greatest)] = await self._reader.fetch(_ends_sql(view.generation), range_)
        first, last = range_ if least is None else (least, greatest)
        return cuts_between(first.int, min(last.int + 1, _LAST_ID), parts)


def _range(start: UUID | None, end: UUID | None) -> tuple[UUID, UUID]:
    """The first id and the last of a half-open range; of an empty one, two ids between which there is none."""
    first, last = start.int if start else 0, (end.int - 1 if end else _LAST_ID)
    return (UUID(int=first), UUID(int=last)) if first <= last else (UUID(int=1), UUID(int=0))


def cuts_between(least: int, behind: int, parts: int) -> list[UUID]:
    """The ids that divide those from `least` to before `behind` into so many parts, the two outermost without any."""
    if parts <= _OUTERMOST:
        return [UUID(int=(least + behind) // 2)] * (parts - 1)
    inner = parts - _OUTERMOST
    return [UUID(int=least + (behind - least) * number // inner) for number in range(inner + 1)]


_WHERE: Final = "id BETWEEN $1::uuid AND $2::uuid"


@lru_cache(maxsize=8)  # generations that serve during one process's life
def _ends_sql(generation: int) -> str:
    name = users_tables(generation).users.name
    ends = (f"(SELECT id FROM {name} WHERE {_WHERE} ORDER BY id {order} LIMIT 1)" for order in ("", "DESC"))  # noqa: S608
    return f"SELECT {', '.join(ends)}"


@lru_cache(maxsize=8)  # as above
def _digest_sql(generation: int) -> str:
    """Number, count and digest of each part that has users; one row of nulls if behind."""
    tables = users_tables(generation)
    hashed = "encode(substr(sha256(uuid_send(id) || int8send(version)), 1, 16), 'hex')"
    nobody = "NULL::int AS part, NULL::bigint AS count, NULL::bit(128) AS digest"
    digests = (
        f"SELECT width_bucket(id, $3::uuid[]) AS part, count(*), bit_xor(('x' || {hashed})::bit(128)) AS digest"  # noqa: S608
        f" FROM {tables.users.name} WHERE {_WHERE} AND {NOT_BEHIND} GROUP BY 1"
    )
    return unless_behind(tables, "$4", "$5", else_row=nobody, read=digests)


def _answer(exchange: QueryExchange, view: View, bounds: Sequence[UUID | None], rows: FetchedRows) -> QueryAnswer:
    found = {row["part"]: (row["count"], row["digest"].bytes.hex()) for row in rows}
    entries = [
        _entry(bounds[part], bounds[part + 1], *found.get(part, (0, _NOBODY))) for part in range(len(bounds) - 1)
    ]
    body = json.dumps({"data": entries}, separators=(",", ":")).encode("ascii")
    return QueryAnswer(body, [NO_STORE, *exchange.fresh_headers(view.as_of)])


def _entry(start: UUID | None, end: UUID | None, count: int, digest: str) -> dict[str, Any]:
    return {"from": start and str(start), "to": end and str(end), "count": count, "digest": digest}
