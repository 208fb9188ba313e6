"""The span of each request, by the semantic conventions for HTTP: a part of the caller's trace, where one is told.

Of a request it says the method, the route's template and the status, and its id, which the log has too: no path, query,
header or address.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.http.health import PROBES
from chassis.http.middleware import METHODS, ROUTE, header
from chassis.telemetry import request_id
from chassis.tracing.context import read_traceparent
from chassis.tracing.otlp import REQUEST_ID
from chassis.tracing.spans import Span, SpanKind, Tracer, active

_OTHER: Final = "_OTHER"
_FIRST_FAILURE: Final = 500


class Traced:
    """Makes a span of each request whose trace is recorded; what it leads to finds it active."""

    def __init__(self, app: ASGIApp, *, tracer: Tracer) -> None:
        """Wrap `app`."""
        self._app = app
        self._tracer = tracer

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request; one of which nothing is recorded is the app's from here on, without a frame of ours."""
        span = self._begin(scope) if scope["type"] == "http" and scope["path"] not in PROBES else None
        return self._app(scope, receive, send) if span is None else self._record(span, scope, receive, send)

    async def _record(self, span: Span, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with span:
            try:
                await self._app(scope, receive, noting)
            finally:
                _describe(span, scope, status)

    def _begin(self, scope: Scope) -> Span | None:
        parent = header(scope, b"traceparent")
        return self._tracer.begin("", SpanKind.SERVER, read_traceparent(parent) if parent else None)


def traced(tracer: Tracer | None) -> list[Middleware]:
    """What makes spans, right inside request ids; nothing at all where there is no tracer."""
    return [] if tracer is None else [Middleware(Traced, tracer=tracer)]


def outgoing() -> dict[str, str]:
    """The headers with which a request to another service becomes a part of the active trace."""
    span = active()
    return {} if span is None else {"traceparent": span.context.traceparent}


def _describe(span: Span, scope: Scope, status: int) -> None:
    """Say what was asked, which is known once the guard has found the route, and what was answered."""
    method = scope["method"] if scope["method"] in METHODS else _OTHER
    # A method that is none is called HTTP in a name.
    span.name = method if method != _OTHER else "HTTP"
    span.attributes = {
        "http.request.method": method,
        "url.scheme": scope["scheme"],
        REQUEST_ID: request_id.get(),
    }
    template: str | None = scope.get(ROUTE)
    if template is not None:
        span.name += f" {template}"
        span.attributes |= {"http.route": template, "url.path": template}
    if status:
        span.attributes["http.response.status_code"] = status
        if status >= _FIRST_FAILURE:
            span.error = str(status)
