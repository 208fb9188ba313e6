"""`/projections`: the generations of each projection, how far each is, and what may be done with them.

The list is the database's, so it is there without Kafka; how far each is comes of the functions of `muster lag`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chassis.postgres.database import Database
from console.asking import Failed, within
from console.forms import Form, change, lead_to, told_to, whole_number
from console.opened import journal_of, query_of, settings_of
from console.pages import PageError, page, session_of
from console.projections.rebuilds import RebuildPart, machinery, rebuilds_of
from console.settings import ConsoleSettings
from console.sign_in.sessions import Session
from console.words import count
from projectors.operations.lag import GenerationLag, look_at_topics, measure_against
from projectors.projections.catalogue import PROJECTIONS
from read_model import generations
from read_model.feeding import FeedState, why_refused
from read_model.generations import Generation

#: A page that follows a change tells one of these.
DONE: Final = {
    "begun": "The rebuild has begun. It goes on without this page.",
    "switching": "The switch has begun. It goes on without this page.",
    "rolled-back": "The generation before serves again.",
    "retired": "The tables of that generation are gone.",
}
_STATUS: Final = {"serving": "serves", "standby": "stands by", "building": "being built"}
_MOST_DIGITS: Final = 9

Lags = Mapping[tuple[str, int], GenerationLag]


class GenerationRow(NamedTuple):
    """One generation as the page shows it."""

    generation: Generation
    status: str
    #: The lag; None where it is not known.
    lag: GenerationLag | None
    behind: str
    #: Why it is not fed, and what to do.
    reason: str


class Shown(NamedTuple):
    """One projection as the page shows it."""

    name: str
    rows: Sequence[GenerationRow]
    part: RebuildPart | None

    def _of(self, status: str) -> list[int]:
        return [row.generation.number for row in self.rows if row.generation.status == status]

    @property
    def building(self) -> int | None:
        """The number of the generation that is being built."""
        return next(iter(self._of("building")), None)

    @property
    def standing_by(self) -> Sequence[int]:
        """Those that stand by, the newest last."""
        return self._of("standby")

    @property
    def rollback_target(self) -> int | None:
        """What a rollback goes back to."""
        found = generations.rollback_target([row.generation for row in self.rows])
        return None if found is None else found.number

    @property
    def is_running(self) -> bool:
        """True where this process works on it."""
        return self.part is not None and self.part.is_running

    @property
    def waits_to_be_fed(self) -> bool:
        """True where nobody feeds what serves: for seconds after a switch, or until a process is started."""
        return any(
            row.generation.status == "serving" and row.lag is not None and row.lag.state is FeedState.UNASSIGNED
            for row in self.rows
        )

    @property
    def may_switch(self) -> bool:
        """True where the generation that is being built has caught up, or all but for a difference."""
        part = self.part
        return self.building is not None and part is not None and (part.is_ready or part.differs)


async def _show(request: Request) -> Response:
    query, rebuilds = query_of(request), rebuilds_of(request)
    lags, why = await _lags(settings_of(request), query_of(request))
    async with query.connection() as connection:
        known = {name: await generations.read(connection, name) for name in sorted(PROJECTIONS)}
    shown = [
        Shown(name, [_row(one, lags) for one in found if one.status != "retired"], rebuilds.of(name))
        for name, found in known.items()
    ]
    return page(
        request,
        "projections.html",
        projections=shown,
        why=why,
        notice=DONE.get(told_to(request).get("done", "")),
        may_change=session_of(request).may("operations:write"),
    )


async def _lags(settings: ConsoleSettings, query: Database) -> tuple[Lags, str]:
    """The lag of each generation; or why that is not known."""
    topics = await within(look_at_topics(settings))
    if isinstance(topics, Failed):
        return {}, f"Kafka does not answer ({topics.why})"
    found = await within(measure_against(settings, query, topics))
    if isinstance(found, Failed):
        return {}, f"the query database does not answer ({found.why})"
    return {(one.projection, one.number): one for one in found}, ""


def _row(generation: Generation, lags: Lags) -> GenerationRow:
    lag = lags.get((generation.projection, generation.number))
    reason = lag.reason if lag else why_refused(generation) if generation.refusal else ""
    return GenerationRow(generation, _STATUS[generation.status], lag, behind(lag.records if lag else None), reason)


def behind(records: int | None) -> str:
    """The lag of a generation, in words."""
    if records is None:
        return "not known"
    if records == 0:
        return "has read everything"
    return "1 record behind" if records == 1 else f"{count(records)} records behind"


async def _rebuild(request: Request, session: Session, _: Form) -> Response:
    name = _name(request)
    await rebuilds_of(request).begin(session, name, switches=False, accept_difference=False)
    return _back(session, name, "begun")


async def _switch(request: Request, session: Session, form: Form) -> Response:
    name = _name(request)
    accepted = form.get("accept_difference", "") == "yes"
    await rebuilds_of(request).begin(session, name, switches=True, accept_difference=accepted)
    return _back(session, name, "switching")


async def _roll_back(request: Request, session: Session, _: Form) -> Response:
    name = _name(request)
    _require_still(request, name)
    async with journal_of(request).deed(session, "roll back", name):
        await machinery().roll_back(query_of(request), name)
    rebuilds_of(request).forget(name)
    return _back(session, name, "rolled-back")


async def _retire(request: Request, session: Session, form: Form) -> Response:
    name, given = _name(request), form.get("generation", "")
    number = whole_number(given, most_digits=_MOST_DIGITS)
    if number is None:
        raise PageError(400, "There is no such generation", "`generation` must be its number.")
    _require_still(request, name)
    async with journal_of(request).deed(session, "retire", f"{name} {number}"):
        await machinery().retire(query_of(request), name, number)
    rebuilds_of(request).forget(name)
    return _back(session, name, "retired")


def _require_still(request: Request, name: str) -> None:
    """Return where no rebuild of the projection is under way here: the page that was sent may be an old one.

    Raises:
        PageError: 409, one is.
    """
    part = rebuilds_of(request).of(name)
    if part is not None and part.is_running:
        raise PageError(409, "That projection is being rebuilt", "Nothing was changed: wait until the rebuild is over.")


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    if name not in PROJECTIONS:
        raise PageError(404, "There is no such projection", f"There are {', '.join(sorted(PROJECTIONS))}.")
    return name


def _back(session: Session, name: str, done: str) -> Response:
    return lead_to(session, "/projections", part=name, done=done)


routes: Final = [
    Route("/projections", _show),
    *(
        Route(f"/projections/{{name}}/{path}", change(deed), methods=["POST"])
        for path, deed in (
            ("rebuild", _rebuild),
            ("switch", _switch),
            ("rollback", _roll_back),
            ("retire", _retire),
        )
    ),
]
