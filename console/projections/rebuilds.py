"""Rebuilds that were begun in the console: each goes on in this process, whoever leaves the page.

A rebuild comes in two parts, as `muster rebuild` does with `--pause-before-switch`: the first builds a generation and
compares it, the second reads what came meanwhile, compares once more, switches, and hands over. Where this process ends
the generation stays, and the next part, begun here or by the command line, goes on with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import structlog
from starlette.requests import Request

from chassis.lifecycle import end_task
from chassis.postgres.database import Database
from console.operations.journal import Journal
from console.pages import PageError
from console.sign_in.sessions import Session
from projectors.settings import ProjectorSettings

if TYPE_CHECKING:
    from projectors.operations.rebuild import Progress

log = structlog.get_logger("console")

#: A replay ends at once when it is told to; a switch that is under way may take this long.
_CLOSE_SECONDS: Final = 8.0


@dataclass(slots=True)
class RebuildPart:
    """One part of a rebuild: how far it is, and what came of it."""

    projection: str
    switches: bool
    progress: Progress | None = None
    #: The finding of the comparison with the command side, once there was one.
    compared: str | None = None
    #: The difference that was accepted.
    accepted: str = ""
    is_over: bool = False
    #: True where what was built waits for a person to switch to it.
    is_ready: bool = False
    #: Why it could not go on.
    error: str | None = None
    #: Whether that is a difference, which a person may accept, and what mends it.
    differs: bool = False
    remedy: str = ""

    @property
    def is_running(self) -> bool:
        """True where it goes on."""
        return not self.is_over

    def show(self, progress: Progress) -> None:
        """Keep how far it is."""
        self.progress = progress


class Rebuilds:
    """The last part of each projection's rebuild, one at a time for each."""

    def __init__(self, settings: ProjectorSettings, command: Database, journal: Journal) -> None:
        """`command` is compared with."""
        self._settings, self._command, self._journal = settings, command, journal
        self._stopping = asyncio.Event()
        self._parts: dict[str, RebuildPart] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def of(self, projection: str) -> RebuildPart | None:
        """The part that was begun last here for a projection."""
        return self._parts.get(projection)

    def forget(self, projection: str) -> None:
        """Its generation is gone or serves: nothing is to be said of it any more, but of a part that goes on."""
        part = self._parts.get(projection)
        if part is not None and not part.is_running:
            del self._parts[projection]

    async def begin(self, session: Session, projection: str, *, switches: bool, accept_difference: bool) -> None:
        """Record it, and let it go on by itself.

        Raises:
            PageError: 409, one is under way.
            DatabaseUnavailableError: it cannot be recorded, and was not begun.
        """
        before = self._parts.get(projection)
        if before is not None and before.is_running:
            raise PageError(409, "That is being done already", "Nothing was begun: the page shows how far it is.")
        self._parts[projection] = part = RebuildPart(projection, switches)
        deed = "rebuild and switch" if switches else "rebuild"
        recorded = AsyncExitStack()
        try:
            await recorded.enter_async_context(
                self._journal.deed(session, f"{deed}, difference accepted" if accept_difference else deed, projection)
            )
        except BaseException:
            del self._parts[projection]
            raise
        work = self._carry_out(recorded, part, accept_difference=accept_difference)
        self._tasks[projection] = asyncio.create_task(work, name=f"rebuild of {projection}")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """At the end of the block each part stops where it can go on from."""
        try:
            yield
        finally:
            self._stopping.set()
            if self._tasks:
                await asyncio.wait(self._tasks.values(), timeout=_CLOSE_SECONDS)
            for task in self._tasks.values():
                await end_task(task)

    async def _carry_out(self, recorded: AsyncExitStack, part: RebuildPart, *, accept_difference: bool) -> None:
        """Run a part to its end; what it fails with is told in the page and recorded."""
        try:
            async with recorded:
                part.is_ready = await machinery().build(
                    self._settings, self._command, part, self._stopping, accept_difference=accept_difference
                )
        except PageError as error:
            part.error = error.detail
        except Exception:
            log.exception("console.rebuild_failed", projection=part.projection)
            part.error = "Something went wrong here: the console's log says what. Nothing that is read has changed."
        finally:
            part.is_over = True


#: The rebuilds that were begun here.
rebuilds_of: Final[Callable[[Request], Rebuilds]] = attrgetter("app.state.rebuilds")


def machinery() -> Any:
    """The module that carries rebuilds out, `building.py`: an idle console does without what it imports."""
    return import_module("console.projections.building")
