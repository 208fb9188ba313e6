"""Events as rows, the newest first, and which of them somebody wants to see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from starlette.requests import Request

from chassis.identifiers import read_id
from console.apis import Parameters
from console.pages import PageError, render
from console.sign_in.sessions import Session
from events.catalogue import short_name
from events.user_events import USER_EVENTS

#: A page has so many; older ones leave it as newer ones come.
MOST_ROWS: Final = 100
_UNKNOWN_LOOK: Final = "note"
#: The words say it, too.
_LOOKS: Final = {"registered": "good", "reactivated": "good", "erased": "bad", "deactivated": "off", "snapshot": "off"}


def _types_by_kind() -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for type_ in USER_EVENTS.types():
        found.setdefault(short_name(type_), []).append(type_)
    return found


#: The types of each kind of event: its versions.
KINDS: Final = _types_by_kind()


class WantedEvents(NamedTuple):
    """A choice of events: those of this kind, of this user, or any."""

    kind: str
    user: UUID | None

    @classmethod
    def of(cls, request: Request) -> WantedEvents:
        """The choice that the address of a page says.

        Raises:
            PageError: 400, there are no such events.
        """
        kind, user = (request.query_params.get(name, "").strip() for name in ("type", "user"))
        if kind and kind not in KINDS:
            raise PageError(400, "There are no such events", f"`type` must be one of {', '.join(KINDS)}.")
        try:
            return cls(kind, read_id(user) if user else None)
        except ValueError as error:
            raise PageError(400, "That is no id of a user", "Find the user first: the page shows the id.") from error

    @property
    def address(self) -> dict[str, str]:
        """The choice as parameters of a page of ours."""
        given = {"type": self.kind, "user": str(self.user or "")}
        return {name: value for name, value in given.items() if value}

    @property
    def parameters(self) -> Parameters:
        """The choice as parameters of the event API."""
        return {**self.address, **({"type": KINDS[self.kind]} if self.kind else {})}


class EventRow(NamedTuple):
    """One event."""

    said: Mapping[str, Any]
    kind: str
    look: str

    @property
    def leads_to_user(self) -> bool:
        """True where there may be a page of the user."""
        return self.kind != "erased"


def newest_first(events: Iterable[Mapping[str, Any]]) -> list[EventRow]:
    """The newest MOST_ROWS of these; partitions come one after the other, so they are put in order by time."""
    ordered = sorted(
        events, key=lambda said: (datetime.fromisoformat(said["time"]), said["version"], said["user_id"]), reverse=True
    )
    return [_row(said) for said in ordered[:MOST_ROWS]]


def render_rows(rows: Sequence[EventRow], session: Session, *, left_out: int = 0) -> str:
    """The rows of a table, for somebody who may see what this session may."""
    return render("events_rows.html", rows=rows, left_out=left_out, links=session.may("users:read"))


def _row(said: Mapping[str, Any]) -> EventRow:
    kind = short_name(said["type"])
    return EventRow(said, kind, _LOOKS.get(kind, _UNKNOWN_LOOK))
