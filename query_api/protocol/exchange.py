"""A query's request and its answer in plain ASGI, because a FastAPI route costs more than the query that it runs.

The framework's request and response build objects for what we read once. Here one pass picks out the few headers that
queries know, and the answer goes out as two messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from chassis.access.guard import access_of
from chassis.http.negotiation import accepts
from chassis.http.overload.admission import leave_place
from chassis.http.preferences import NOTHING_PREFERRED, Preferences, parse_preferences
from chassis.http.problems import MALFORMED, Problem

JSON_MEDIA_TYPE: Final = "application/json"
CONSISTENCY_TOKEN: Final = b"consistency-token"
_KNOWN_HEADERS: Final = frozenset({b"accept", CONSISTENCY_TOKEN, b"if-none-match", b"prefer"})

RawHeaders = list[tuple[bytes, bytes]]
#: The headers that an answer depends on, beside its address.
VARY: Final = (b"vary", b"Accept, Consistency-Token, Prefer")
NO_STORE: Final = (b"cache-control", b"no-store")
_JSON_TYPE: Final = (b"content-type", JSON_MEDIA_TYPE.encode("ascii"))


class QueryExchange:
    """A client's request; each part is read when somebody needs it."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        """Pick out the headers that queries know; one sent twice is one list (RFC 9110, section 5.3)."""
        self.scope = scope
        self.access = access_of(scope)
        self._receive = receive
        self._headers: dict[bytes, str] = {}
        for name, value in scope["headers"]:
            if name in _KNOWN_HEADERS:
                text = value.decode("latin-1")
                self._headers[name] = f"{self._headers[name]}, {text}" if name in self._headers else text

    def header(self, name: bytes) -> str:
        """The header's text; empty where it was not sent."""
        return self._headers.get(name, "")

    def has(self, name: bytes) -> bool:
        """Whether the header was sent, even if empty."""
        return name in self._headers

    @property
    def path_id(self) -> str:
        """The `id` in the path, as it was sent."""
        text: str = self.scope["path_params"]["id"]
        return text

    @property
    def query(self) -> bytes:
        """The raw query string."""
        text: bytes = self.scope["query_string"]
        return text

    @property
    def preferences(self) -> Preferences:
        """The preferences of the Prefer header."""
        header = self._headers.get(b"prefer")
        return parse_preferences(header) if header else NOTHING_PREFERRED

    def applied(self, *, waited: bool = False, counted: bool = False) -> RawHeaders:
        """The Preference-Applied header, empty if no preference was applied (RFC 7240, section 3)."""
        applied = []
        if waited and self.preferences.wait is not None:
            applied.append(b"wait=%d" % self.preferences.wait)
        if counted:
            applied.append(b"count=exact")
        return [(b"preference-applied", b", ".join(applied))] if applied else []

    def fresh_headers(self, as_of: bytes) -> RawHeaders:
        """The headers of every answer that waits for tokens: Vary, As-Of, and Preference-Applied where one was."""
        return [VARY, (b"as-of", as_of), *self.applied(waited=self.has(CONSISTENCY_TOKEN))]

    def require_acceptable(self) -> None:
        """Raise a 406 if the client does not accept JSON."""
        accept = self.header(b"accept")
        if accept and accept not in ("*/*", JSON_MEDIA_TYPE):
            accepts(Request(self.scope), JSON_MEDIA_TYPE)

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            Problem: 413; 400, the client left before its end.
        """
        parts = []
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise Problem(MALFORMED, "the body ended before its end")
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(parts)

    def leave_place(self) -> None:
        """Wait from now on, and let another request begin."""
        leave_place(self.scope)

    async def client_left(self) -> None:
        """Return when the client has closed the connection; a body that nobody asked for is read and ignored."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


@dataclass(slots=True)
class QueryAnswer:
    """A whole answer; `send` adds type and length, and leaves out the body for HEAD."""

    body: bytes
    headers: RawHeaders
    status: int = 200

    async def send(self, scope: Scope, send: Send) -> None:
        """Send it."""
        headers = self.headers
        if self.status == 200:
            headers += (_JSON_TYPE, (b"content-length", b"%d" % len(self.body)))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self.body})
