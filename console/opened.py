"""Gives the handlers of requests what the app's lifespan has opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from chassis.postgres.database import Database
from console.settings import ConsoleSettings

if TYPE_CHECKING:
    from console.apis import Apis
    from console.operations.journal import Journal
    from console.sign_in.sessions import Sessions


def settings_of(request: Request) -> ConsoleSettings:
    """The settings."""
    settings: ConsoleSettings = request.app.state.settings
    return settings


def query_of(request: Request) -> Database:
    """The query database."""
    query: Database = request.app.state.query
    return query


def apis_of(request: Request) -> Apis:
    """The APIs."""
    apis: Apis = request.app.state.apis
    return apis


def sessions_of(request: Request) -> Sessions:
    """The sessions."""
    sessions: Sessions = request.app.state.sessions
    return sessions


def journal_of(request: Request) -> Journal:
    """The journal."""
    journal: Journal = request.app.state.journal
    return journal
