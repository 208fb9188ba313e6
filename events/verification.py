"""Verify: whether a subscriber's copy of the users is that of Muster, and if not, which users differ.

Both sides are compared by digests of ranges of ids (`GET /users/digest` of the query API); a range that differs is
divided until single ids are left, and one that the query API says is too large is divided at once.
Commands go on meanwhile, and no two sides are ever read at one moment. So a difference counts only if it is still there
each time that both sides have passed the look before, and one of them has not got to where the other was then.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import chain, pairwise
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

#: Users of the copy in one question: the query API digests so many well within its time limit.
QUESTION_USERS: Final = 100_000
#: Parts that a range is divided into at most, as the query API allows, and at least: the two outermost hold nobody.
MOST_PARTS: Final = 256
LEAST_PARTS: Final = 4
#: A range that is too large is divided into so many pieces, evenly, though ids lie close together. Fewer would cost
#: more refusals until a part is small enough, more would be more questions about nobody.
PIECES: Final = 16
#: A user must differ in this many looks. Two would report users who were erased a moment ago.
LOOKS: Final = 3
#: The clock of this machine may be behind those of Muster's by so much.
CLOCKS_DIFFER: Final = timedelta(seconds=1)
#: The version that Muster has is looked for this far from the copy's, by its digest; a user who is further off differs.
VERSIONS_APART: Final = 1000
#: Questions at a time about single users.
AT_ONCE: Final = 8
#: The longest wait until the query API passes the time that it named, and the pause between two questions.
PASSING_SECONDS: Final = 60.0
ASK_AGAIN_SECONDS: Final = 0.5

_DIGEST_BYTES: Final = 16
_ID_BYTES: Final = 16
_VERSION_BYTES: Final = 8
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_LAST_ID: Final = UUID(int=2**128 - 1)

#: Asks the query API for a path with its query; gives the JSON document and the header As-Of. Raises
#: `RangeTooLargeError` for the problem type /problems/query-too-expensive. Is called up to AT_ONCE times at once.
Fetch = Callable[[str], Awaitable[tuple[Any, str]]]
#: All ids and versions of the copy, read once it has passed the given time (`Batch.as_of`); at once for None.
Rows = Callable[[datetime | None], Awaitable[Iterable[tuple[UUID, int]]]]


class RangeTooLargeError(Exception):
    """`fetch` raises it: the answer is 503 /problems/query-too-expensive; a narrower range is asked for then."""


class StaleAnswerError(Exception):
    """The query API's As-Of stands still: its projectors do not run, or cannot read the log."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A user who is not the same on both sides."""

    user_id: UUID
    #: The version in the copy; None where the copy has not got the user.
    version: int | None
    #: True where Muster has the user.
    exists: bool


@dataclass(frozen=True, slots=True)
class Verification:
    """The result."""

    #: The differences, by id.
    differences: list[Difference]
    #: The number of users that the copy has.
    users: int
    #: True where there may be more differences than were asked for.
    more: bool


def _now() -> datetime:
    return datetime.now(UTC)


async def verify_copy(
    fetch: Fetch, rows: Rows, *, limit: int = 1000, now: Callable[[], datetime] = _now
) -> Verification:
    """Compare a copy with Muster while both go on; at most `limit` differing users are named.

    `now` is the clock of `Batch.as_of`, which is this machine's.

    Raises:
        StaleAnswerError: the query API did not get further within PASSING_SECONDS.
        RangeTooLargeError: of `fetch`, for a range that cannot be divided further.
        Exception: whatever else `fetch` and `rows` raise.
    """
    look = _Look(fetch, _Copy(await rows(None)), limit)
    await look.at_all()
    users, more = len(look.copy), look.is_full
    for _ in range(LOOKS - 1):
        if look.found:
            # Rows of either side in this look may be younger than what it is sure to have all of.
            passed = max(look.as_of, now())
            await _passed(fetch, passed + CLOCKS_DIFFER)
            look = await _again(fetch, _Copy(await rows(passed)), look)
    return Verification([look.found[user_id] for user_id in sorted(look.found)], users, more)


async def _again(fetch: Fetch, copy: _Copy, before: _Look) -> _Look:
    """Another look at the users who differed; those are left out who were only on the way."""
    look = _Look(fetch, copy, len(before.found))
    waiting = iter(before.found)

    async def ask() -> None:
        for user_id in waiting:
            await look.at_range(user_id, _after(user_id))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(ask())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # what `fetch` raised, as in the first look
    look.found = {user_id: found for user_id, found in look.found.items() if not look.has_moved(user_id, before)}
    return look


async def _passed(fetch: Fetch, as_of: datetime) -> None:
    """Return once the query API has seen everything up to that time, and more."""
    for _ in range(int(PASSING_SECONDS / ASK_AGAIN_SECONDS)):
        _, reached = await fetch(_target(_LAST_ID, None, 1))
        if datetime.fromisoformat(reached) > as_of:
            return
        await asyncio.sleep(ASK_AGAIN_SECONDS)
    raise StaleAnswerError(f"the query API has not got past {as_of.isoformat()} for {PASSING_SECONDS:g} s")


class _Copy:
    """The copy's rows in order, each as the bytes that are digested."""

    def __init__(self, rows: Iterable[tuple[UUID, int]]) -> None:
        self._rows = sorted(_row(user_id, version) for user_id, version in rows)

    def __len__(self) -> int:
        return len(self._rows)

    def between(self, start: UUID | None, end: UUID | None) -> list[bytes]:
        """The rows of a half-open range of ids."""
        first = 0 if start is None else bisect_left(self._rows, start.bytes)
        return self._rows[first : len(self._rows) if end is None else bisect_left(self._rows, end.bytes)]

    def questions(self) -> Iterator[tuple[UUID | None, UUID | None]]:
        """Ranges that together are everything, with QUESTION_USERS each."""
        borders = [None, *(_id(row) for row in self._rows[QUESTION_USERS::QUESTION_USERS]), None]
        return pairwise(borders)


class _Look:
    """One comparison, of everything or of single users."""

    def __init__(self, fetch: Fetch, copy: _Copy, limit: int) -> None:
        self.copy = copy
        self.found: dict[UUID, Difference] = {}
        #: Muster's version of each of them; 0 where it has not got the user, None where it is far from the copy's.
        self.theirs: dict[UUID, int | None] = {}
        #: The latest As-Of of the answers.
        self.as_of = _NEVER
        self._fetch = fetch
        self._limit = limit

    @property
    def is_full(self) -> bool:
        """Whether as many differ as were asked for."""
        return len(self.found) >= self._limit

    async def at_all(self) -> None:
        for start, end in self.copy.questions():
            if self.is_full:
                break
            await self.at_range(start, end, parts=MOST_PARTS)

    async def at_range(self, start: UUID | None, end: UUID | None, *, parts: int = 1) -> None:
        """Note who differs in a half-open range."""
        try:
            document, as_of = await self._fetch(_target(start, end, parts))
        except RangeTooLargeError:
            pieces = _pieces(start, end)
            if not pieces:
                raise
            for first, last in pieces:
                if self.is_full:
                    break
                await self.at_range(first, last, parts=parts)
            return
        self.as_of = max(self.as_of, datetime.fromisoformat(as_of))
        for part in document["data"]:
            first, last = _uuid(part["from"]), _uuid(part["to"])
            ours, count = self.copy.between(first, last), part["count"]
            if self.is_full or (count, part["digest"]) == (len(ours), _digest(ours)):
                continue
            if count == 0 or (first is not None and last == _after(first)):
                self._note(ours, first if count else None, part["digest"])
            else:
                # So many parts that nearly each user is in one of its own.
                await self.at_range(first, last, parts=min(MOST_PARTS, LEAST_PARTS + 2 * count))

    def has_moved(self, user_id: UUID, before: _Look) -> bool:
        """Whether each side has got to where the other was in the look before, which both have passed."""
        was, they_were = before.found[user_id].version or 0, before.theirs[user_id]
        now, they_are = self.found[user_id].version or 0, self.theirs[user_id]
        return they_were is not None and they_are is not None and now >= they_were and they_are >= was

    def _note(self, ours: list[bytes], theirs: UUID | None, digest: str) -> None:
        """Note users of the copy whom Muster has not, or a single one whom it has."""
        for row in ours[: self._limit - len(self.found)]:
            version = int.from_bytes(row[_ID_BYTES:], "big")
            self.found[_id(row)] = Difference(_id(row), version, exists=theirs is not None)
            self.theirs[_id(row)] = 0
        if theirs is not None:
            found = self.found.setdefault(theirs, Difference(theirs, None, exists=True))
            self.theirs[theirs] = _version(theirs, digest, found.version or 1)


def _target(start: UUID | None, end: UUID | None, parts: int) -> str:
    bounds = {name: str(bound) for name, bound in (("from", start), ("to", end)) if bound is not None}
    return f"/users/digest?{urlencode({**bounds, 'parts': parts})}"


def _pieces(start: UUID | None, end: UUID | None) -> list[tuple[UUID | None, UUID | None]]:
    """A range in PIECES of it; none where it is too narrow."""
    first, behind = start.int if start else 0, end.int if end else _LAST_ID.int
    if behind - first < PIECES:
        return []
    cuts = (UUID(int=first + (behind - first) * number // PIECES) for number in range(1, PIECES))
    return list(pairwise([start, *cuts, end]))


def _row(user_id: UUID, version: int) -> bytes:
    return user_id.bytes + version.to_bytes(_VERSION_BYTES, "big")


def _version(user_id: UUID, digest: str, near: int) -> int | None:
    """The version of a single user that has this digest; None where it is VERSIONS_APART or more away."""
    later = range(near, near + VERSIONS_APART)
    earlier = range(near - 1, max(0, near - VERSIONS_APART), -1)
    return next((each for each in chain(later, earlier) if _digest([_row(user_id, each)]) == digest), None)


def _digest(rows: list[bytes]) -> str:
    """XOR of the first 16 bytes of each row's SHA-256."""
    found = 0
    for row in rows:
        found ^= int.from_bytes(sha256(row).digest()[:_DIGEST_BYTES], "big")
    return f"{found:032x}"


def _after(user_id: UUID) -> UUID | None:
    return None if user_id == _LAST_ID else UUID(int=user_id.int + 1)


def _id(row: bytes) -> UUID:
    return UUID(bytes=row[:_ID_BYTES])


def _uuid(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)
