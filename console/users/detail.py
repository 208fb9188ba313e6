"""`/users/{id}`: what the query side has of a user, what happened to them, and what may be done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chassis.identifiers import read_id
from console.forms import told_to
from console.opened import apis_of
from console.pages import PageError, page, session_of
from console.sign_in.sessions import Session
from console.users.masking import shown
from events.user_events import PublicUser

PAGE_ENTRIES: Final = 20
ERASED: Final = "erased"
#: A page that follows a change tells one of these.
DONE: Final = {
    "deactivated": "The user is deactivated.",
    "reactivated": "The user is active again.",
    "email": "The address is changed.",
    ERASED: "The user is erased. Their data is gone from here, and leaves the log within days.",
}
#: A page waits so long for the change that led to it.
WAIT_SECONDS: Final = 5
#: Labels of some members of a user, in the page's order; the others follow by their own names.
_LABELS: Final = {"username": "Username", "email": "Address", "email_verified": "Address verified"}
#: Members that the page shows elsewhere, each in a form of its own.
_ELSEWHERE: Final = frozenset({"id", "is_active", "status", "created_at", "updated_at"})
#: The members that the page lists, with their labels.
FIELDS: Final = {
    name: _LABELS.get(name, name.replace("_", " ").capitalize())
    for name in (*_LABELS, *PublicUser.model_fields)
    if name not in _ELSEWHERE
}


class ChangedMember(NamedTuple):
    """One member that a change replaced, before and after."""

    name: str
    before: str
    after: str


class TimelineEntry(NamedTuple):
    """One entry of the timeline; its steps are in seconds since the one before."""

    said: dict[str, Any]
    reason: str
    changes: Sequence[ChangedMember]
    to_log: float | None
    to_table: float | None


def user_id(request: Request) -> UUID:
    """The id in the path.

    Raises:
        PageError: 404, it is none.
    """
    try:
        return read_id(request.path_params["id"])
    except ValueError as error:
        raise PageError(404, "There is no such user", "What stands in the address is no id.") from error


async def read_user(request: Request, session: Session, identifier: UUID, after: str | None = None) -> dict[str, Any]:
    """The user as the query API has them, not older than the change whose Consistency-Token is given.

    Raises:
        PageError: they are not there, or it cannot be known yet.
    """
    headers = {"Consistency-Token": after, "Prefer": f"wait={WAIT_SECONDS}"} if after else None
    return await apis_of(request).query(session, "GET", f"/users/{identifier}", headers=headers)


async def _show(request: Request) -> Response:
    session, identifier, told = session_of(request), user_id(request), told_to(request)
    clear = identifier in session.revealed
    notice = DONE.get(told.get("done", ""))
    late = False
    try:
        user = await read_user(request, session, identifier, told.get("after"))
    except PageError as error:
        if error.status == 404 and told.get("done") == ERASED:
            return page(request, "gone.html", notice=notice)
        if error.status != 504:
            raise
        late, user = True, await read_user(request, session, identifier)
    cursor = request.query_params.get("cursor")
    asked = {"limit": str(PAGE_ENTRIES), **({"cursor": cursor} if cursor else {})}
    timeline = await apis_of(request).query(session, "GET", f"/users/{identifier}/timeline", params=asked)
    return page(
        request,
        "user.html",
        user=user,
        fields=[(label, shown(name, user.get(name), clear=clear)) for name, label in FIELDS.items()],
        entries=[_entry(said, clear=clear) for said in timeline["data"]],
        next=timeline["next_cursor"],
        is_first=not cursor,
        masked=not clear,
        notice=notice,
        late=late,
        may=session.may,
    )


def _entry(said: dict[str, Any], *, clear: bool) -> TimelineEntry:
    changes = [
        ChangedMember(name, shown(name, each["from"], clear=clear), shown(name, each["to"], clear=clear))
        for name, each in said.get("changes", {}).items()
    ]
    return TimelineEntry(
        said,
        shown("reason", said.get("reason"), clear=clear),
        changes,
        _between(said.get("committed_at"), said.get("published_at")),
        _between(said.get("published_at"), said.get("applied_at")),
    )


def _between(begin: str | None, end: str | None) -> float | None:
    """Seconds; clocks of different machines may say that an event arrived before it left."""
    if begin is None or end is None:
        return None
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds())


routes: Final = [Route("/users/{id}", _show)]
