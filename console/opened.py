"""Gives the handlers of requests what the app's lifespan has opened."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from starlette.requests import Request

from chassis.postgres.database import Database
from console.settings import ConsoleSettings

if TYPE_CHECKING:
    from console.apis import Apis
    from console.operations.journal import Journal
    from console.sign_in.sessions import Sessions

settings_of: Final[Callable[[Request], ConsoleSettings]] = attrgetter("app.state.settings")
#: The query database.
query_of: Final[Callable[[Request], Database]] = attrgetter("app.state.query")
apis_of: Final[Callable[[Request], Apis]] = attrgetter("app.state.apis")
sessions_of: Final[Callable[[Request], Sessions]] = attrgetter("app.state.sessions")
journal_of: Final[Callable[[Request], Journal]] = attrgetter("app.state.journal")
