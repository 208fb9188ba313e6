"""Reads a client's request: where to begin, which events, and how much of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal, NamedTuple
from uuid import UUID

from fastapi import Depends, Query, Request
from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from chassis.access.guard import access_of
from chassis.access.problems import forbidden
from chassis.http.problems import Problem, invalid_parameter, unavailable
from chassis.identifiers import canonical
from event_api.log.consuming import LogAwayError
from event_api.log.continuity import LogGoneError
from event_api.log.log import Beginning, EventLog
from event_api.log.positions import InvalidPositionError
from event_api.log.reading import Reading
from event_api.problems import INVALID_POSITION, POSITION_GONE
from event_api.users.messages import TYPES, MessageFilter

#: Seconds after which to come back while Kafka is away.
_RETRY_SECONDS: Final = 2
#: `full=true` needs this scope beside the route's own: it shows people.
_WHOLE_SCOPE: Final = "users:read"


def _log(request: Request) -> EventLog:
    log: EventLog = request.app.state.log
    return log


Log = Annotated[EventLog, Depends(_log)]


#: As the catalogue has them. One that is not published any more, or by a later Muster alone, is asked for in vain only.
_TYPE: Final = r"muster\.user\.[a-z_]{1,64}\.v[1-9][0-9]{0,3}"


def _well_formed(text: str) -> str:
    if not re.fullmatch(_TYPE, text):
        raise ValueError(f"is no type of event with its version; those of today are {', '.join(TYPES)}")
    return text


_Type = Annotated[str, AfterValidator(_well_formed), WithJsonSchema({"type": "string", "pattern": f"^{_TYPE}$"})]
Types = Annotated[
    list[_Type],
    Query(alias="type", description="Only events of these types.", examples=[["muster.user.registered.v1"]]),
]
User = Annotated[UUID | None, BeforeValidator(canonical), Query(description="Only events of this user.")]
From = Annotated[
    Beginning | None,
    Query(
        alias="from",
        description="Where to begin: with every living user, with about the last 1000 records, or with what comes"
        " from now on (the default).",
    ),
]
After = Annotated[
    str | None,
    Query(description="Begin after this position: an event's `id:`, or `next` of a page. Not together with `from`."),
]
Full = Annotated[
    Literal["true", "false"],
    Query(description="With the whole user (`user`, `previous`); needs the scope `users:read` as well."),
]
Limit = Annotated[
    int | None,
    Query(ge=1, description="Events a page, 100 by default; more than 1000 is served as 1000. For pages alone."),
]


class Beginnings(NamedTuple):
    """The place to begin, by each way to say it."""

    last_event_id: str
    after: str | None
    beginning: Beginning | None

    @classmethod
    def of(cls, request: Request, after: str | None, beginning: Beginning | None) -> Beginnings:
        """The places that the request says.

        Raises:
            Problem: 422, it says it twice.
        """
        if after is not None and beginning is not None:
            raise invalid_parameter("after", "does not go together with from; leave one of them out")
        return cls(request.headers.get("last-event-id", ""), after, beginning)

    @property
    def position(self) -> str | None:
        """The position after which to begin; a client that comes back says it in its header, whatever its address."""
        return self.last_event_id or self.after


def require_whole(request: Request, *, full: bool) -> None:
    """Raise a 403 where the whole user is asked for and may not be seen."""
    if full and not access_of(request.scope).may(_WHOLE_SCOPE):
        raise forbidden("full=true shows people, which the token has no scope for", scope=_WHOLE_SCOPE)


async def begin(log: EventLog, where: Beginnings, types: Sequence[str], user: UUID | None) -> Reading:
    """A reader where the client asks for it.

    Raises:
        Problem: 400, 410, 503.
    """
    wanted, position = MessageFilter(frozenset(types), user), where.position
    try:
        if position is not None:
            return await log.resume(wanted, position)
        return await log.begin(wanted, where.beginning or "now")
    except InvalidPositionError as error:
        named = {"header": "Last-Event-ID"} if where.last_event_id else {"parameter": "after"}
        raise Problem(INVALID_POSITION, f"the position {error}", errors=[{"detail": str(error), **named}]) from error  # type: ignore[typeddict-item] # one of its members
    except (LogGoneError, LogAwayError) as error:
        raise unreadable(error) from error


def unreadable(error: LogGoneError | LogAwayError) -> Problem:
    """The 410 or the 503."""
    return gone(error) if isinstance(error, LogGoneError) else _away()


def gone(error: LogGoneError) -> Problem:
    """The 410."""
    return Problem(POSITION_GONE, str(error))


def _away() -> Problem:
    """The 503; the reason is for the inside, where the process says it."""
    return unavailable("Kafka does not answer now", retry_after=_RETRY_SECONDS)
