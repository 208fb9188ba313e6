"""The query API's own problem types, beside those that all APIs share (chassis/http/problems.py)."""

from chassis.http.problems import FieldError, Problem, ProblemType

INVALID_CURSOR = ProblemType(
    "invalid-cursor",
    400,
    "The cursor cannot be used",
    "The cursor is not one of ours, was altered, belongs to another address, sort or filter, or its key has gone.",
    "Pass next_cursor back unchanged, with the same filters or none; or start again at the first page.",
)
SKIP_TOO_DEEP = ProblemType(
    "skip-too-deep",
    400,
    "This far down, only a cursor can take you",
    "skip makes the database read and throw away every row before the page, so it is capped.",
    "Follow next_cursor (or the Link header): a page by cursor costs the same at any depth.",
)
NOT_YET_VISIBLE = ProblemType(
    "not-yet-visible",
    504,
    "The read side has not seen that change yet",
    "The Consistency-Token names a version that the projection had not reached when the wait ended.",
    "Ask again after the seconds in Retry-After, with a longer wait in Prefer; a token of another system never comes.",
)
TOO_EXPENSIVE = ProblemType(
    "query-too-expensive",
    503,
    "This combination took too long",
    "The database could not find the page within its time limit; rare mixes of filters and sort may scan.",
    "Narrow the filters (an exact one, a longer prefix, a shorter period) or sort by a filtered field.",
)
COUNT_TOO_EXPENSIVE = ProblemType(
    "count-too-expensive",
    503,
    "Counting took too long",
    "Prefer: count=exact was asked for, and counting every match exceeded its own time limit.",
    "Leave the preference out (the page itself needs no count), or narrow the filters.",
)

QUERY_PROBLEMS = (
    INVALID_CURSOR,
    SKIP_TOO_DEEP,
    NOT_YET_VISIBLE,
    TOO_EXPENSIVE,
    COUNT_TOO_EXPENSIVE,
)

#: Seconds until a client may ask again: a projection is normally milliseconds behind.
RETRY_SECONDS = "1"


def invalid_cursor(detail: str) -> Problem:
    """A 400 about the `cursor` parameter."""
    errors: list[FieldError] = [{"detail": detail, "parameter": "cursor"}]
    return Problem(INVALID_CURSOR, f"cursor: {detail}", errors=errors)


def retry_later(kind: ProblemType, detail: str) -> Problem:
    """A problem that passes, with the time after which to ask again."""
    return Problem(kind, detail, headers={"Retry-After": RETRY_SECONDS})
