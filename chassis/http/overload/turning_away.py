"""The cheapest refusal: what a process answers before a request costs it a task, or the app anything.

So it answers while it is behind, and where the app knows at once that it refuses (`Refuses`). Within the app the same
is said of the requests that need more of it: those of browsers, whose pages may read it only with CORS, and those whose
body is on its way. A refusal here takes half of the time, and refusals come most where there is least of it (ADR 24).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from fastapi import FastAPI
from starlette.types import ASGIApp, Scope

from chassis.http.middleware import header, note_answer, request_id_of
from chassis.http.overload.admission import Admission, refused
from chassis.http.problems import PreparedProblem
from chassis.http.transport.exchange import Prompt
from chassis.telemetry import request_id

_PLAIN: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


class Refuses(Protocol):
    """What an app refuses as soon as it is asked."""

    def __call__(self, scope: Scope, sent: bytes) -> PreparedProblem | None:
        """Give the problem with which the app would answer a request, by its scope and body; None where it is asked."""

    def may_wait(self, app: FastAPI, sent: bytes, at: int) -> bool:
        """Whether a request that begins in `sent` at `at` looks like one of these, so that others are read first."""


class TurnAway:
    """Gives the transport the answer to a request that is not to begin, None where the app is to see it."""

    def __init__(
        self,
        admission: Admission,
        *,
        headers: Callable[[Scope], Mapping[str, str]],
        make_request_id: Callable[[], str],
        refuses: Refuses | None = None,
    ) -> None:
        """`headers` gives what every answer to a request carries."""
        self._admission = admission
        self._headers = headers
        self._make_request_id = make_request_id
        self._refuses = refuses
        self._busy = PreparedProblem(refused())

    def __call__(self, app: ASGIApp, scope: Scope, sent: bytes) -> Prompt | None:
        """Judge a request; the scope is that which `app` would see, `sent` its body."""
        scope["app"] = app
        if scope["method"] not in _PLAIN or header(scope, b"origin"):
            return None
        if self._admission.refuses(scope["path"]):
            return self._answer(scope, self._busy)
        problem = self._refuses and self._refuses(scope, sent)
        return self._answer(scope, problem) if problem else None

    def _answer(self, scope: Scope, problem: PreparedProblem) -> Prompt:
        identifier = request_id_of(scope, self._make_request_id)
        body = problem.body(instance=scope["path"], request_id=identifier)
        more = {**self._headers(scope), "x-request-id": identifier, "content-length": str(len(body))}
        headers = [*problem.headers, *((name.lower().encode(), value.encode()) for name, value in more.items())]
        token = request_id.set(identifier)
        note_answer(scope, problem.status, 0.0)
        request_id.reset(token)
        return Prompt(problem.status, headers, body)
