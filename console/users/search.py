"""`/users`: find a user by an id, or by the beginning of a username or an address, and leaf through all.

What was searched for comes as a form and goes on as a sealed parameter, so that no address of a person is in the
address of a page, in a history or in a log.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from chassis.identifiers import read_id
from console.apis import Json
from console.forms import Form, change
from console.opened import apis_of, journal_of, sessions_of, settings_of
from console.pages import HEADERS, PageError, page, session_of
from console.sign_in.sealing import BrokenSealError, seal, unseal
from console.sign_in.sessions import Session
from console.users.masking import shown

#: One part of the page has so many; a screen shows about as many.
PAGE_USERS: Final = 25
#: A page of two parts lists so many.
_MOST_REVEALED: Final = 2 * PAGE_USERS
#: The kind of what is sealed under the session's id.
_KIND: Final = "search"
_STATUSES: Final = frozenset({"", "active", "deactivated"})
#: Longer than an address can be.
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class Search:
    """A search; an empty text finds all."""

    text: str = ""
    status: str = ""

    def parts(self) -> list[tuple[str, Json]]:
        """The questions to the query API, each under its heading.

        Each is sorted by what it looks for, so a page costs the same at any number of users.
        """
        if not self.text:
            return [("The newest first", {})]
        by_address = ("Addresses that begin so", {"email_prefix": self.text, "sort": "email"})
        if "@" in self.text:
            return [by_address]
        by_name = ("Usernames that begin so", {"username_prefix": self.text, "sort": "username"})
        try:
            identifier = read_id(self.text)
        except ValueError:
            return [by_name, by_address]
        # Users who were moved here may have ids of elsewhere for names.
        return [("With this id", {"id": [str(identifier)]}), by_name]

    def filters(self) -> Json:
        """The filters of every part."""
        return {"limit": PAGE_USERS, **({"status": self.status} if self.status else {})}


class ListedUser(NamedTuple):
    """One user in the list."""

    id: UUID
    username: str
    email: str
    is_active: bool
    created_at: str


class FoundPart(NamedTuple):
    """The answer to one question, and where its next page is."""

    title: str
    rows: Sequence[ListedUser]
    next: str | None


async def _show(request: Request) -> Response:
    session = session_of(request)
    search = _read(request, session)
    cursor, number = request.query_params.get("cursor"), request.query_params.get("part", "0")
    parts = list(enumerate(search.parts()))
    if cursor:
        parts = [part for part in parts if str(part[0]) == number]
    found = [await _ask(request, session, search, index, title, body, cursor) for index, (title, body) in parts]
    found = _once(found)
    ids = [row.id for part in found for row in part.rows]
    return page(
        request,
        "users.html",
        search=search,
        parts=found,
        ids=ids,
        masked=any(row not in session.revealed for row in ids),
        back=f"/users?{request.url.query}" if request.url.query else "/users",
        is_first=not cursor,
    )


def _once(parts: Sequence[FoundPart]) -> list[FoundPart]:
    """Each user where they were found first; a later part that has nobody else is left out."""
    seen: set[UUID] = set()
    kept: list[FoundPart] = []
    for part in parts:
        rows = [row for row in part.rows if row.id not in seen]
        seen.update(row.id for row in rows)
        if rows or part.next or not (kept or part.rows):
            kept.append(part._replace(rows=rows))
    return kept


async def _ask(  # noqa: PLR0913, PLR0917 - what one question is made of
    request: Request, session: Session, search: Search, index: int, title: str, body: Json, cursor: str | None
) -> FoundPart:
    asked = {**search.filters(), **body, **({"cursor": cursor} if cursor else {})}
    try:
        found = await apis_of(request).query(session, "POST", "/users/search", json=asked)
    except PageError as error:
        if error.status != HTTPStatus.UNPROCESSABLE_ENTITY or cursor:
            raise
        # Too long, or with a space: nobody's name or address can begin so.
        return FoundPart(title, [], None)
    following = None
    if found["next_cursor"]:
        given = {"search": request.query_params.get("search", ""), "part": str(index), "cursor": found["next_cursor"]}
        following = f"/users?{urlencode({name: value for name, value in given.items() if value})}"
    return FoundPart(title, [_row(user, session) for user in found["data"]], following)


def _row(user: dict[str, Any], session: Session) -> ListedUser:
    identifier = UUID(user["id"])
    clear = identifier in session.revealed
    username, email = (shown(name, user[name], clear=clear) for name in ("username", "email"))
    return ListedUser(identifier, username, email, user["is_active"], user["created_at"])


async def _search(request: Request, session: Session, form: Form) -> Response:
    search = Search(form.get("text", "").strip()[:_LONGEST], form.get("status", ""))
    if search.status not in _STATUSES:
        raise PageError(400, "There is no such status", "Users are active or deactivated.")
    return _to(f"/users?{urlencode({'search': _sealed(request, session, search)})}" if search != Search() else "/users")


def _sealed(request: Request, session: Session, search: Search) -> str:
    content = json.dumps(asdict(search)).encode()
    return seal(settings_of(request).seals, session.id, content, kind=_KIND).decode("ascii")


def _read(request: Request, session: Session) -> Search:
    sealed = request.query_params.get("search")
    if not sealed:
        return Search()
    try:
        content = unseal(settings_of(request).seals, session.id, sealed.encode(), kind=_KIND)
    except BrokenSealError as error:
        raise PageError(400, "That search is of another sign-in", "Search anew.") from error
    return Search(**json.loads(content))


async def _reveal(request: Request, session: Session, form: Form) -> Response:
    """Show the data of the users that are listed, once it is recorded who saw them."""
    try:
        users = [read_id(text) for text in form.get("ids", "").split()]
    except ValueError as error:
        raise PageError(400, "That list cannot be read", "Open the page anew, then do it again.") from error
    if len(users) > _MOST_REVEALED:
        raise PageError(400, "That list is too long", f"At most {_MOST_REVEALED} users are shown at once.")
    back = form.get("back", "")
    async with journal_of(request).deed(session, "reveal", *users):
        await sessions_of(request).reveal(session, users)
    return _to(back if back == "/users" or back.startswith("/users?") else "/users")


def _to(path: str) -> Response:
    return RedirectResponse(path, 303, dict(HEADERS))


routes: Final = [
    Route("/users", _show),
    Route("/users", change(_search), methods=["POST"]),
    Route("/users/reveal", change(_reveal), methods=["POST"]),
]
