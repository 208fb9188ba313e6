"""`/projections`: the generations of each projection, how far each is, and what may be done with them.

The list is the database's, so it is there without Kafka; how far each is comes of the functions of `muster lag`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from chassis.kafka.client import KAFKA_ERRORS
from chassis.kafka.refusals import REFUSALS as KAFKA_REFUSALS
from chassis.kafka.refusals import explain
from chassis.postgres.database import Database
from console.forms import Form, change
from console.operations.journal import Journal
from console.pages import HEADERS, PageError, page, session_of
from console.projections.rebuilds import REFUSALS, Part, Rebuilds
from console.sign_in.sessions import Session
from console.words import count
from projectors.operations import rebuild
from projectors.operations.lag import GenerationLag, measure
from projectors.operations.rebuild import Stage
from projectors.projections.catalogue import PROJECTIONS
from read_model import generations
from read_model.feeding import why_refused
from read_model.generations import Generation

#: A page waits for Kafka so long, and says then that it does not answer.
LAG_SECONDS: Final = 4.0
#: What a page tells that follows a change.
DONE: Final = {
    "begun": "The rebuild has begun. It goes on without this page.",
    "switching": "The switch has begun. It goes on without this page.",
    "rolled-back": "The generation before serves again.",
    "retired": "The tables of that generation are gone.",
}
_STATUS: Final = {"serving": "serves", "standby": "stands by", "building": "being built"}
_MOST_DIGITS: Final = 9

Lags = Mapping[tuple[str, int], GenerationLag]


class Row(NamedTuple):
    """One generation as the page shows it."""

    generation: Generation
    status: str
    #: None where it is not known.
    lag: GenerationLag | None
    behind: str
    #: Why it is not fed, and what to do.
    reason: str


class Shown(NamedTuple):
    """One projection as the page shows it."""

    name: str
    rows: Sequence[Row]
    part: Part | None

    def _of(self, status: str) -> list[int]:
        return [row.generation.number for row in self.rows if row.generation.status == status]

    @property
    def building(self) -> int | None:
        """The number of the generation that is being built."""
        return next(iter(self._of("building")), None)

    @property
    def standing_by(self) -> Sequence[int]:
        """Those that a rollback could go back to, the newest last."""
        return self._of("standby")

    @property
    def is_running(self) -> bool:
        """Whether this process works on it."""
        return self.part is not None and self.part.is_running

    @property
    def may_switch(self) -> bool:
        """Whether the generation that is being built has caught up, or all but for a difference."""
        part = self.part
        return self.building is not None and part is not None and (part.stage is Stage.READY or part.differs)


async def _show(request: Request) -> Response:
    query, rebuilds = _query(request), _rebuilds(request)
    lags, why = await _lags(request)
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
        notice=DONE.get(request.query_params.get("done", "")),
        may_change=session_of(request).may("operations:write"),
    )


async def _lags(request: Request) -> tuple[Lags, str]:
    """How far each generation is; or why that is not known."""
    try:
        async with asyncio.timeout(LAG_SECONDS):
            found = await measure(request.app.state.settings, _query(request))
    except TimeoutError:
        return {}, f"no answer within {LAG_SECONDS:g} s"
    except (*KAFKA_ERRORS, *KAFKA_REFUSALS) as error:
        return {}, explain(error)
    return {(one.projection, one.number): one for one in found}, ""


def _row(generation: Generation, lags: Lags) -> Row:
    lag = lags.get((generation.projection, generation.number))
    reason = lag.reason if lag else why_refused(generation) if generation.refusal else ""
    return Row(generation, _STATUS[generation.status], lag, behind(lag.records if lag else None), reason)


def behind(records: int | None) -> str:
    """How far a generation is, in words."""
    if records is None:
        return "not known"
    if records == 0:
        return "has read everything"
    return "1 record behind" if records == 1 else f"{count(records)} records behind"


async def _rebuild(request: Request, session: Session, _: Form) -> Response:
    name = _name(request)
    await _rebuilds(request).begin(session, name, switches=False, accept_difference=False)
    return _back(name, "begun")


async def _switch(request: Request, session: Session, form: Form) -> Response:
    name = _name(request)
    accepted = form.get("accept_difference", "") == "yes"
    await _rebuilds(request).begin(session, name, switches=True, accept_difference=accepted)
    return _back(name, "switching")


async def _roll_back(request: Request, session: Session, _: Form) -> Response:
    name = _name(request)
    async with _journal(request).deed(session, "roll back", name):
        await _refusing(rebuild.roll_back(_query(request), name))
    _rebuilds(request).forget(name)
    return _back(name, "rolled-back")


async def _retire(request: Request, session: Session, form: Form) -> Response:
    name, given = _name(request), form.get("generation", "")
    if not (given.isascii() and given.isdecimal() and len(given) <= _MOST_DIGITS):
        raise PageError(400, "There is no such generation", "`generation` must be its number.")
    rebuilds = _rebuilds(request)
    part = rebuilds.of(name)
    if part is not None and part.is_running:
        raise PageError(409, "That projection is being rebuilt", "Nothing was retired: wait until the rebuild is over.")
    async with _journal(request).deed(session, "retire", f"{name} {given}"):
        await _refusing(rebuild.retire_generations(_query(request), name, int(given)))
    rebuilds.forget(name)
    return _back(name, "retired")


async def _refusing(work: Awaitable[object]) -> None:
    """Do it.

    Raises:
        PageError: 409, the generations' own rules refuse.
    """
    try:
        await work
    except REFUSALS as error:
        raise PageError(409, "That cannot be done now", f"Nothing was changed: {error}.") from error


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    if name not in PROJECTIONS:
        raise PageError(404, "There is no such projection", f"There are {', '.join(sorted(PROJECTIONS))}.")
    return name


def _query(request: Request) -> Database:
    query: Database = request.app.state.query
    return query


def _rebuilds(request: Request) -> Rebuilds:
    rebuilds: Rebuilds = request.app.state.rebuilds
    return rebuilds


def _journal(request: Request) -> Journal:
    journal: Journal = request.app.state.journal
    return journal


def _back(name: str, done: str) -> Response:
    return RedirectResponse(f"/projections?{urlencode({'done': done})}#{name}", 303, dict(HEADERS))


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
