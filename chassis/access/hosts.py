"""Which names an API answers to, and which pages in a browser may send it commands without a token.

With access switched off a browser on the same machine is the way in: a page from anywhere can send requests to
127.0.0.1, under a name of its own that it lets point there (DNS rebinding), or across sites. So then only loopback
names are answered, only connections to a loopback address, whatever address the server was told to bind, and a command
from a foreign page is refused.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Collection
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.access.problems import FORBIDDEN
from chassis.http.loopback import is_loopback
from chassis.http.middleware import header
from chassis.http.problems import Problem, ProblemType

MISDIRECTED: Final = ProblemType(
    "misdirected-request",
    421,
    "This service does not answer to that name",
    "The Host header names a host for which this service does not speak.",
    "Use the service's own name; an operator adds further ones to ALLOWED_HOSTS.",
)
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_ANY_BELOW: Final = "*."
#: RFC 9110, section 7.2: a name or an address, and a port; nobody's credentials, no path.
_HOST: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")


class Hosts:
    """Refuses requests for names that are not ours."""

    def __init__(self, app: ASGIApp, *, allowed: Collection[str] = (), loopback_only: bool = False) -> None:
        """Wrap `app`; a name such as `*.example.com` allows all below it, and no name at all allows every one."""
        self._app = app
        self._names = frozenset(name.lower() for name in allowed if not name.startswith(_ANY_BELOW))
        self._suffixes = tuple(name[1:].lower() for name in allowed if name.startswith(_ANY_BELOW))
        self._loopback_only = loopback_only
        self._checks = loopback_only or bool(self._names or self._suffixes)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one connection.

        Raises:
            Problem: 421.
        """
        if self._checks and scope["type"] == "http":
            if self._loopback_only and not _came_by_loopback(scope):
                raise Problem(MISDIRECTED, "this service is for its own machine alone, and answers on no other address")
            if not self._is_ours(host_of(header(scope, b"host"))):
                raise Problem(MISDIRECTED, "the Host header names none of this service's names (ALLOWED_HOSTS)")
        return self._app(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        if self._loopback_only:
            return is_loopback(host) or host.endswith(".localhost")
        return host in self._names or host.endswith(self._suffixes)


class OwnPages:
    """Refuses commands from foreign pages in a browser, where access is switched off."""

    def __init__(self, app: ASGIApp, *, origins: Collection[str]) -> None:
        """Wrap `app`; besides the service's own pages, those of `origins` may send commands."""
        self._app = app
        self._origins = frozenset(origins)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one connection.

        Raises:
            Problem: 403.
        """
        if scope["type"] == "http" and scope["method"] not in _SAFE and self._is_foreign(scope):
            raise Problem(FORBIDDEN, "a page of another origin may not send commands here (CORS_ALLOW_ORIGINS)")
        return self._app(scope, receive, send)

    def _is_foreign(self, scope: Scope) -> bool:
        origin = header(scope, b"origin")
        if not origin:
            return header(scope, b"sec-fetch-site").lower() == "cross-site"
        own = f"{scope.get('scheme', 'http')}://{header(scope, b'host')}"
        return origin not in self._origins and origin.lower() != own.lower()


def host_of(header: str) -> str:
    """The name in a Host header, in lower case and without its port; empty if there is none."""
    found = _HOST.fullmatch(header)
    return found["name"].lower() if found else ""


def _came_by_loopback(scope: Scope) -> bool:
    """Tell whether the connection ends at a loopback address of ours; a socket that is a file has none."""
    host, port = scope.get("server") or ("", None)
    return port is None or is_loopback(host)
