"""The cheapest refusal: what a process that is behind answers before a request costs it a task, or the app anything.

`RefuseWhenBehind` says the same within the app, and stays for the requests that need more of it: those of browsers,
whose pages may read it only with CORS, and those whose body is on its way. A refusal here takes half of the time,
and refusals come most where there is least of it (ADR 24).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from starlette.types import ASGIApp, Scope

from chassis.http.middleware import header, note_answer, request_id_of
from chassis.http.overload.admission import Admission, refused
from chassis.http.problems import PreparedProblem
from chassis.http.transport.exchange import Prompt
from chassis.telemetry import request_id

_PLAIN: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


class TurnAway:
    """Gives the transport the answer to a request that is not to begin, None where the app is to see it."""

    def __init__(
        self,
        admission: Admission,
        *,
        headers: Callable[[Scope], Mapping[str, str]],
        make_request_id: Callable[[], str],
    ) -> None:
        """`headers` gives what every answer to a request carries."""
        self._admission = admission
        self._headers = headers
        self._make_request_id = make_request_id
        self._problem = PreparedProblem(refused())

    def __call__(self, app: ASGIApp, scope: Scope) -> Prompt | None:
        """Judge a request by its head; the scope is that which `app` would see."""
        scope["app"] = app
        path = scope["path"]
        if not self._admission.refuses(path) or scope["method"] not in _PLAIN or header(scope, b"origin"):
            return None
        identifier = request_id_of(scope, self._make_request_id)
        body = self._problem.body(instance=path, request_id=identifier)
        more = {**self._headers(scope), "x-request-id": identifier, "content-length": str(len(body))}
        headers = [*self._problem.headers, *((name.lower().encode(), value.encode()) for name, value in more.items())]
        token = request_id.set(identifier)
        note_answer(scope, self._problem.status, 0.0)
        request_id.reset(token)
        return Prompt(self._problem.status, headers, body)
