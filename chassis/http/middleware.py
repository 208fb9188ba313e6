"""Pure ASGI middleware of both APIs: request ids, caching, metrics, the last resort for errors, and the body limit.

BaseHTTPMiddleware costs more than a whole route here (measured 121 against 35 microseconds), so none is used. A layer
that only looks at a request hands on what the next one returns, for a coroutine of its own would cost each request.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final

import structlog
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.http.problems import CORS_REFUSED, INTERNAL, PAYLOAD_TOO_LARGE, Problem, problem_response
from chassis.telemetry import request_id

log = structlog.get_logger("http")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
#: Buckets in seconds: half a millisecond (a read by id) to ten seconds (the longest wait for a token).
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_REQUESTS = Counter("muster_http_requests_total", "HTTP answers.", ["method", "status"])
_REQUEST_SECONDS = Histogram("muster_http_request_seconds", "Time to answer a request.", ["method"], buckets=_BUCKETS)
#: Where the guard leaves the template of the route that a request is for.
ROUTE: Final = "muster.route"
_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


# Looking a labelled metric up costs more than adding to it, so the few that there are are kept.
_requests = lru_cache(maxsize=None)(_REQUESTS.labels)
_seconds = lru_cache(maxsize=None)(_REQUEST_SECONDS.labels)


def header(scope: Scope, name: bytes) -> str:
    """A header's text, the first where it comes twice; empty where it does not come."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return ""


def replayed(messages: Iterable[Message], receive: Receive) -> Receive:
    """A `receive` that gives these messages again, and then what is new."""
    waiting = deque(messages)

    async def replay() -> Message:
        return waiting.popleft() if waiting else await receive()

    return replay


def loggable_path(scope: Scope) -> str:
    """The path where it is a route's with ids in it, else the template: a client may put an address anywhere."""
    template: str = scope.get(ROUTE, "(no route)")
    path: str = scope["path"]
    return path if _ID.sub("{id}", path) == template else template


def request_id_of(scope: Scope, make_id: Callable[[], str]) -> str:
    """The id that the client gave, or else one that `make_id` makes."""
    given = header(scope, b"x-request-id")
    return given if given and _REQUEST_ID.fullmatch(given) else make_id()


def note_answer(scope: Scope, status: int, seconds: float) -> None:
    """Count an answer, and how long it took."""
    method = scope["method"] if scope["method"] in METHODS else "other"
    _requests(method, status).inc()
    _seconds(method).observe(seconds)
    if log.is_enabled_for(logging.DEBUG):
        log.debug("http.answered", method=method, path=loggable_path(scope), status=status, seconds=seconds)


class RequestContext:
    """Outermost: gives each request its id and echoes it, and counts the answer."""

    def __init__(self, app: ASGIApp, *, make_id: Callable[[], str]) -> None:
        """Wrap `app`; `make_id` makes an id where the client sent none that we accept."""
        self.app = app
        self.make_id = make_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        identifier = request_id_of(scope, self.make_id)
        token = request_id.set(identifier)
        answer = _Answer(scope, send, identifier)
        try:
            await self.app(scope, receive, answer.send)
        finally:
            answer.record()
            request_id.reset(token)


class LastResort:
    """Turns a problem or a stray exception into its answer; inside CORS, so that browsers can read it too."""

    def __init__(self, app: ASGIApp, *, headers: Callable[[Scope], Mapping[str, str]]) -> None:
        """Wrap `app`; `headers` gives what its answers to a request carry in any case."""
        self.app = app
        self.headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception as error:
            # The answer has begun and its status is out: only a closed connection can tell the client.
            if begun:
                raise
            explained = problem_response(_as_problem(error, scope), instance=scope["path"])
            explained.headers.update(self.headers(scope))
            await explained(scope, receive, send)


def _as_problem(error: Exception, scope: Scope) -> Problem:
    if isinstance(error, Problem):
        return error
    log.error("http.unexpected_error", method=scope.get("method"), path=loggable_path(scope), exc_info=error)
    return Problem(INTERNAL, "an unexpected error; the request_id leads the operator to its cause")


class Cors(CORSMiddleware):
    """Starlette's, but a refused preflight is a problem like every other refusal."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            # Starlette hands `preflight_response` the headers alone.
            headers = Headers(scope=scope)
            if "origin" in headers and "access-control-request-method" in headers:
                answer = self.preflight_response(headers)
                await self._explained(answer, scope["path"])(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    @staticmethod
    def _explained(answer: Response, path: str) -> Response:
        if answer.status_code < 400:
            return answer
        detail = f"{bytes(answer.body).decode()}; CORS_ALLOW_ORIGINS says which origins may call"
        refused = problem_response(Problem(CORS_REFUSED, detail), instance=path)
        refused.headers["Vary"] = answer.headers.get("Vary", "Origin")
        return refused


class _Answer:
    """One answer on its way out: adds the request id, keeps caches off what is personal, and remembers the status."""

    def __init__(self, scope: Scope, send: Send, identifier: str) -> None:
        self._scope = scope
        self._send = send
        self._identifier = identifier
        self._start = time.perf_counter()
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self._identifier.encode("ascii"))]
            if ROUTE in self._scope and b"cache-control" not in dict(headers):
                headers.append((b"cache-control", b"no-store"))
            message["headers"] = headers
        await self._send(message)

    def record(self) -> None:
        note_answer(self._scope, self.status, time.perf_counter() - self._start)


class BodyLimit:
    """Refuses bodies above a limit, by Content-Length before reading and by counting while reading."""

    def __init__(self, app: ASGIApp, *, limit: Callable[[Scope], int]) -> None:
        """Wrap `app`; `limit` gives a request's greatest body size in bytes."""
        self.app = app
        self.limit = limit

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request.

        Raises:
            Problem: payload-too-large.
        """
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        limit = self.limit(scope)
        declared = header(scope, b"content-length")
        if declared.isdecimal() and int(declared) > limit:
            raise _too_large(limit)
        return self.app(scope, _counting(receive, limit), send)


def _counting(receive: Receive, limit: int) -> Callable[[], Awaitable[Message]]:
    total = 0

    async def counted() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > limit:
            raise _too_large(limit)
        return message

    return counted


def _too_large(limit: int) -> Problem:
    return Problem(PAYLOAD_TOO_LARGE, f"the body may have at most {limit} bytes; send less at once")
