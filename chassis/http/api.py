"""The factory of both HTTP APIs: it gives an app its middleware, errors, health and offline docs.

Routes are strict: an unknown or repeated query parameter and a body of another media type are errors, never ignored.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from chassis import __version__
from chassis.access.guard import Access, access_of
from chassis.http.health import Health, HealthFirst, public_routes
from chassis.http.middleware import BodyLimit, Cors, LastResort, RequestContext
from chassis.http.negotiation import accepts, require_media_type
from chassis.http.overload.admission import Admission, InTurn, RefuseWhenBehind
from chassis.http.overload.turning_away import Refuses, TurnAway
from chassis.http.pages.docs import doc_routes
from chassis.http.pages.problems import problem_routes
from chassis.http.problems import (
    COMMON,
    MALFORMED,
    VALIDATION,
    FieldError,
    Problem,
    ProblemType,
    answer_http_exception,
    answer_invalid_request,
    answer_problem,
    repeated_member,
)
from chassis.http.protection import ACCESS_PROBLEMS, EXPOSED, Protection
from chassis.http.tracing import traced
from chassis.http.transport.exchange import MAY_WAIT, TURN_AWAY
from chassis.strict_json import RepeatedMemberError, UnreadableJsonError, read_json
from chassis.tracing.process import ProcessTracer, exporting

#: A command or query body of ours is a few KiB (attributes at most 16); more is a mistake or an attack.
BODY_BYTES = 64 * 1024

#: The problem types that every API has.
SHARED_PROBLEMS = (*COMMON, *ACCESS_PROBLEMS)

_EXPOSED = (
    *EXPOSED,
    "Location",
    "Link",
    "ETag",
    "Consistency-Token",
    "Device-Token",
    "As-Of",
    "Retry-After",
    "X-Total-Count",
    "Idempotent-Replayed",
    "Preference-Applied",
    "X-Request-Id",
)


class StrictRoute(APIRoute):
    """A route that refuses unfit media types and parameters (406, 415, 422) before anything is read."""

    #: The media types a body may have, the preferred one first.
    media_types: tuple[str, ...] = ("application/json",)
    #: The media types of the answer, one of which Accept must allow; the preferred one first.
    produces: tuple[str, ...] = ("application/json",)

    def judge(self, access: Access, document: Any, state: State) -> None:
        """Refuse what the caller may not ask for, by the JSON body as it came, ahead of what else is wrong with it.

        `document` is None where no body came; `state` is the app's. Whatever reads a body ahead of us asks here, too.
        """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the checks."""
        handler = super().get_route_handler()
        known = {parameter.alias for parameter in self.dependant.query_params}
        repeatable = {
            parameter.alias for parameter in self.dependant.query_params if _is_list(parameter.field_info.annotation)
        }
        media_types = self.media_types if self.body_field else ()
        body_required = self.body_field is not None and self.body_field.field_info.is_required()

        async def strict(request: Request) -> Response:
            access = access_of(request.scope)  # a way past the guard, whatever it were, ends here
            accepts(request, *self.produces)
            refuse_unknown_parameters(request, known=known, repeatable=repeatable)
            if media_types:
                if body_required or has_body(request):
                    require_media_type(request, media_types)
                # Here, because FastAPI turns whatever goes wrong while it reads a body, too large included, into a 400.
                body = await read_body(request)
                self.judge(access, read_json_body(body) if body else None, request.app.state)
            return await handler(request)

        return strict


def has_body(request: Request) -> bool:
    """Whether the client sends a body (RFC 9112, section 6.3); one of length 0 is none."""
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


async def read_body(request: Request) -> bytes:
    """The whole body, kept by the request for whoever reads it next.

    Raises:
        Problem: payload-too-large, or malformed-request where the client went away half-way.
    """
    try:
        return await request.body()
    except ClientDisconnect as error:
        raise Problem(MALFORMED, "the body ended before its end") from error


def read_json_body(body: bytes) -> Any:
    """The JSON document that a body is; a byte order mark before it is passed over (RFC 8259, section 8.1).

    Raises:
        Problem: malformed-request, it is no JSON in UTF-8; validation-error, naming the member that comes twice.
    """
    encoding = json.detect_encoding(body)
    if encoding not in {"utf-8", "utf-8-sig"}:
        # The section rules the others out, and Python reads them.
        raise Problem(MALFORMED, f"the body looks like {encoding.upper()}; send JSON in UTF-8")
    try:
        return read_json(body.decode("utf-8-sig"))
    except RepeatedMemberError as error:
        raise repeated_member(error) from error
    except UnreadableJsonError as error:
        raise Problem(MALFORMED, f"the body {error}") from error
    except UnicodeDecodeError as error:
        raise Problem(MALFORMED, f"the body is not UTF-8 at byte {error.start + 1}; send JSON in UTF-8") from error


def _is_list(annotation: object) -> bool:
    return getattr(annotation, "__origin__", None) is list


def refuse_unknown_parameters(request: Request, *, known: set[str], repeatable: set[str]) -> None:
    """Raise a 422 that names every unknown query parameter and every repeated single-valued one."""
    if not request.url.query:
        return
    counts = Counter(name for name, _ in request.query_params.multi_items())
    errors: list[FieldError] = []
    for name, count in counts.items():
        if name not in known:
            allowed = ", ".join(sorted(known)) or "none"
            errors.append({"detail": f"is not a known parameter; this route takes: {allowed}", "parameter": name})
        elif count > 1 and name not in repeatable:
            errors.append({"detail": f"is given {count} times; give it once", "parameter": name})
    if errors:
        raise Problem(VALIDATION, f"{errors[0]['parameter']}: {errors[0]['detail']}", errors=errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiDescription:
    """One API's description, its problem types, and what differs between the two."""

    title: str
    summary: str
    problems: tuple[ProblemType, ...]
    body_limit: Callable[[Scope], int] = lambda _: BODY_BYTES
    #: Headers that every answer to such a request carries, for the refusals that no route has explained.
    headers: Callable[[Scope], Mapping[str, str]] = lambda _: {}


Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]


def create_api(  # noqa: PLR0913 - one keyword for each thing that the two APIs bring
    description: ApiDescription,
    *,
    lifespan: Lifespan,
    health: Health,
    protection: Protection,
    admission: Admission,
    make_request_id: Callable[[], str],
    tracer: ProcessTracer | None = None,
    refuses: Refuses | None = None,
) -> FastAPI:
    """An app with everything but its own routes; nothing is opened before its lifespan begins.

    It does not start with a route that `protection` says nothing of. Without a tracer nothing of it is traced. What
    `refuses` knows at once never reaches the app.
    """
    turn_away = TurnAway(admission, headers=description.headers, make_request_id=make_request_id, refuses=refuses)

    @asynccontextmanager
    async def guarded(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with exporting(tracer), protection.open(app.router.routes), lifespan(app):
            yield {TURN_AWAY: partial(turn_away, app), MAY_WAIT: partial(refuses.may_wait, app) if refuses else None}

    # Without it FastAPI asks each time whether somebody has installed OpenTelemetry by now: 3 % of a command.
    by_framework = os.environ.get("FASTAPI_OTEL_AUTO_CONFIGURE", "").lower() == "true"
    app = FastAPI(
        title=description.title,
        summary=description.summary,
        version=__version__,
        lifespan=guarded,
        middleware=_middleware(description, protection, admission, make_request_id, tracer),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"operation_spans": False, "tracing": by_framework, "metrics": by_framework, "logs": by_framework},
    )
    app.router.route_class = StrictRoute
    app.add_exception_handler(Problem, answer_problem)
    app.add_exception_handler(HTTPException, answer_http_exception)
    app.add_exception_handler(RequestValidationError, answer_invalid_request)
    app.state.admission = admission
    #: With the reasons and the metrics, which a port of the inside serves.
    app.state.health = Health({**health.ready, **protection.checks()}, health.live)
    app.router.routes.extend([_front_page(description), *doc_routes(description.title)])
    app.router.routes.extend(public_routes(app.state.health))
    app.router.routes.extend(problem_routes(SHARED_PROBLEMS + description.problems))
    return app


def _front_page(description: ApiDescription) -> Route:
    """`GET /`: leads a browser to the docs, and tells a program in one line where they are."""
    said = {"service": description.title, "version": __version__, "docs": "/docs", "openapi": "/openapi.json"}
    line = json.dumps(said) + "\n"

    async def show(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", "").lower():
            return RedirectResponse("/docs", 303, {"Vary": "Accept"})
        return Response(line, media_type="application/json", headers={"Vary": "Accept"})

    return Route("/", show)


def _middleware(
    description: ApiDescription,
    protection: Protection,
    admission: Admission,
    make_request_id: Callable[[], str],
    tracer: ProcessTracer | None,
) -> list[Middleware]:
    last_resort = Middleware(LastResort, headers=description.headers)
    context = Middleware(RequestContext, make_id=make_request_id)
    stack = [context, *traced(tracer), last_resort, protection.hosts()]
    if protection.cors_origins:
        cors = Middleware(
            Cors,
            allow_origins=list(protection.cors_origins),
            allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=list(_EXPOSED),
        )
        # Once more inside, so that pages of these origins may read what became of their requests.
        stack += [cors, last_resort]
    stack.append(Middleware(RefuseWhenBehind, admission=admission))
    # Ahead of the body: who may not come in is told so before anything of theirs is read.
    stack.extend(protection.middleware())
    stack.append(Middleware(BodyLimit, limit=description.body_limit))
    return stack


def put_in_front(app: FastAPI, make: Callable[[ASGIApp], ASGIApp]) -> None:
    """Put an app of `make`'s ahead of the framework; it gets the framework, for requests that it does not serve itself.

    Both stay inside the middleware (ids, CORS, stray exceptions, the body limit), and begin when it is their turn.
    /health is answered ahead of both: it is asked most when there is least time. Call this last: middleware and
    exception handlers that are added to the app afterwards have no effect.
    """
    around, app.user_middleware = app.user_middleware, []
    framework = app.build_middleware_stack()
    # Without its outermost layer, which answers stray exceptions in plain text: LastResort answers them as problems.
    inner = make(framework.app if isinstance(framework, ServerErrorMiddleware) else framework)
    served: ASGIApp = HealthFirst(InTurn(inner, admission=app.state.admission))
    for middleware, arguments, options in reversed(around):
        served = middleware(served, *arguments, **options)
    app.user_middleware = around
    app.middleware_stack = served
