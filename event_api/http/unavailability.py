"""The answer of any route that cannot do its work now: 503, with when to come back."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request
from starlette.responses import Response

from chassis.http.problems import problem_response, unavailable
from chassis.outages import describe
from chassis.postgres.database import DatabaseUnavailableError, RolledBackError
from event_api.http.asking import unreadable
from event_api.log.consuming import LogAwayError
from event_api.receipts.erasures import NoReadTableError

log = structlog.get_logger("receipts")


def answer_outages(app: FastAPI) -> None:
    """Have the app answer each of these with its problem."""
    for kind in (DatabaseUnavailableError, RolledBackError, NoReadTableError):
        app.add_exception_handler(kind, _no_database)
    app.add_exception_handler(LogAwayError, _no_log)


def _no_database(request: Request, error: Exception) -> Response:
    # Why names hosts and roles: that is for the log.
    log.warning("receipts.unavailable", reason=describe(error))
    return problem_response(unavailable("the query database cannot be read now"), instance=request.url.path)


def _no_log(request: Request, error: Exception) -> Response:
    assert isinstance(error, LogAwayError)
    log.warning("receipts.unavailable", reason=describe(error))
    return problem_response(unreadable(error), instance=request.url.path)
