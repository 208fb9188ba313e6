"""Stands before the routes of an API: its names, pages of browsers where no token does, and the guard of access.

It is made from the API's table and settings, opened with the app, and is middleware: inside request ids and the last
resort, names ahead of CORS and the rest inside it, ahead of the body limit, the fast paths and the framework.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Scope

from chassis.access.authenticator import Authenticator, open_authenticator
from chassis.access.caller import Grant
from chassis.access.guard import Authenticates, Guard
from chassis.access.hosts import MISDIRECTED, Hosts, OwnPages
from chassis.access.problems import CHALLENGE, FORBIDDEN, UNAUTHENTICATED, unauthenticated
from chassis.access.rates import TOO_MANY_REQUESTS, RateLimits
from chassis.access.rules import AccessTable, UncoveredRouteError
from chassis.access.settings import GuardedHttp
from chassis.http.health import Check, NotReadyError
from chassis.http.problems import Problem, ProblemType, unavailable

#: The problem types of what stands before the routes.
ACCESS_PROBLEMS: Final[tuple[ProblemType, ...]] = (UNAUTHENTICATED, FORBIDDEN, MISDIRECTED, TOO_MANY_REQUESTS)
#: The headers of a refusal that a page of a browser has to read.
EXPOSED: Final = (CHALLENGE, "RateLimit", "RateLimit-Policy")


class Protection:
    """Lets through what the table and the settings let through; nothing before it was opened."""

    def __init__(self, table: AccessTable, settings: GuardedHttp, *, host: str) -> None:
        """Protect a process that listens on `host`.

        Raises:
            SettingsError: the settings do not say whose tokens open the API.
        """
        self.table = table
        #: Pages of these may call.
        self.cors_origins = settings.cors_origins
        self._settings = settings
        self._host = host
        self._is_on = settings.expectations(host) is not None
        self._limits = RateLimits(settings.rates)
        self._opened: Authenticator | None = None
        #: The same layers, without one that waits, and nothing behind them.
        self._knowing: ASGIApp = _nothing
        for layer, arguments, options in reversed([self.hosts(), *self._layers(self._recalling)]):
            self._knowing = layer(self._knowing, *arguments, **options)

    @asynccontextmanager
    async def open(self, routes: Iterable[BaseRoute]) -> AsyncIterator[None]:
        """Know the issuer's keys until the block ends; `routes` are all that the app has.

        Raises:
            UncoveredRouteError: one of them says nothing about access.
        """
        self.table.require_cover(methods_and_paths(routes))
        async with open_authenticator(self._settings, host=self._host) as authenticator:
            self._opened = authenticator
            try:
                yield
            finally:
                self._opened = None

    def checks(self) -> Mapping[str, Check]:
        """The readiness checks: whether there are keys, where tokens are asked for."""
        return {"issuer": self._check} if self._is_on else {}

    def hosts(self) -> Middleware:
        """The layer that refuses foreign names; it stands before CORS, which answers preflights itself."""
        return Middleware(Hosts, allowed=self._settings.host_names, loopback_only=not self._is_on)

    def middleware(self) -> list[Middleware]:
        """The layers before the routes, the outermost first."""
        return self._layers(self._authenticator)

    def lets_in_at_once(self, scope: Scope) -> bool:
        """Tell whether all layers let a request in, and can say so without waiting; rate limits count it then.

        Only for who answers the request: it leaves nothing in the scope by which a route could let it in.
        """
        try:
            self._knowing(dict(scope), _nothing, _nothing).__await__().send(None)
        except StopIteration:
            return True
        except Problem:
            return False
        raise RuntimeError("a layer before the routes waits")

    def _layers(self, authenticator: Callable[[], Authenticates | None]) -> list[Middleware]:
        guard = Middleware(Guard, table=self.table, authenticator=authenticator, limits=self._limits)
        return [guard] if self._is_on else [Middleware(OwnPages, origins=self.cors_origins), guard]

    async def _check(self) -> None:
        if self._opened is None:
            raise NotReadyError("starting")
        await self._opened.check()

    def _authenticator(self) -> Authenticator | None:
        if self._is_on and self._opened is None:
            raise unavailable("the service is starting or ending")
        return self._opened

    def _recalling(self) -> Authenticates | None:
        authenticator = self._authenticator()
        return authenticator and _Recalling(authenticator)


class _Recalling(NamedTuple):
    """An authenticator that knows the tokens that it has verified before, and no others."""

    authenticator: Authenticator

    async def admit(self, authorization: str) -> Grant:
        """Return whom it knows.

        Raises:
            Problem: 401.
        """
        if grant := self.authenticator.recall(authorization):
            return grant
        raise unauthenticated("the token did not come before", token_came=True)


async def _nothing(*_: object) -> Any:
    """An app that answers nothing, and what it would receive and send."""


def methods_and_paths(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str]]:
    """Every method and template; a route that names none of its own is looked into, or refused."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        path, methods = getattr(route, "path", None), getattr(route, "methods", None)
        if inner is not None:
            yield from methods_and_paths(inner.routes)
        elif isinstance(route, Mount):
            yield "GET", f"{route.path}/"
        elif path is None or not methods:
            raise UncoveredRouteError(f"{route!r} names no path and methods of which access could be told")
        else:
            yield from ((method, path) for method in methods)
