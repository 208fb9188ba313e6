"""The one place that lets requests in, ahead of the body, every route and the ways around the framework.

It leaves its decision in the request's scope. A route that finds none refuses (`access_of`), so any way past the guard
leads nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol
from uuid import UUID, uuid4

from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.access.caller import SELF, Caller, Grant
from chassis.access.problems import forbidden
from chassis.access.rates import RateLimits
from chassis.access.rules import AccessTable, Rule
from chassis.http.middleware import ROUTE, header

_KEY: Final = "muster.access"


class Authenticates(Protocol):
    """Turns the Authorization header into a caller."""

    async def admit(self, authorization: str) -> Grant:
        """Return the caller and how long it may stay; an absent header is empty.

        Raises:
            Problem: 401.
        """


def _for_ever() -> float:
    return math.inf


class Access(NamedTuple):
    """Who sent a request, and what the guard let it in for."""

    #: None where access is switched off.
    caller: Caller | None
    #: Let in for what is the caller's own, and for nothing else.
    own_only: bool = False
    #: Seconds until the token expires; 0 once its key was removed. Long answers end then.
    seconds_left: Callable[[], float] = _for_ever

    def may(self, scope: str) -> bool:
        """Tell whether the caller has this scope too, where the route's own is not enough."""
        return self.caller is None or (not self.own_only and scope in self.caller.scopes)

    def visible(self, user_id: UUID) -> UUID:
        """The id to look for: the one asked for, or one that nobody has if the caller may not see that.

        So from here on somebody else's is treated as absent: the same statements, times and answers.
        """
        return user_id if self.sees(user_id) else uuid4()

    def sees(self, user_id: UUID) -> bool:
        """Tell whether the caller may see this user."""
        return not self.own_only or (self.caller is not None and user_id == self.caller.user_id)


_OPEN: Final = Access(None)


class Guard:
    """Lets a request through if its token opens the route, or the path is public or no route."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        table: AccessTable,
        authenticator: Callable[[], Authenticates | None],
        limits: RateLimits | None = None,
    ) -> None:
        """Wrap `app`; `authenticator` returns what the app's lifespan opened, None where access is switched off."""
        self._app = app
        self._table = table
        self._authenticator = authenticator
        self._limits = limits or RateLimits({})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection.

        Raises:
            Problem: 401, 403, 429; 404, 405: a path only looks like a route's.
        """
        if scope["type"] == "http" and (rule := self._table.find(scope["method"], scope["path"])):
            scope[ROUTE] = rule.path
            authenticator = self._authenticator()
            access = _OPEN
            if authenticator is not None:
                access = _let_in(rule, await authenticator.admit(header(scope, b"authorization")))
            self._limits.take(rule, access.caller, _address(scope), own_only=access.own_only)
            enter(scope, access)
        await self._app(scope, receive, send)


def enter(scope: Scope, access: Access) -> None:
    """Put the decision into the request's scope."""
    scope[_KEY] = access


def access_of(scope: Scope) -> Access:
    """Return what the guard decided about a request.

    Raises:
        RuntimeError: the guard did not see it, which is a bug.
    """
    access: Access | None = scope.get(_KEY)
    if access is None:
        raise RuntimeError("a request came past the access guard")
    return access


def identity_of(scope: Scope) -> str:
    """Who sent a request, as one text: the caller, or the address where access is switched off."""
    caller = access_of(scope).caller
    return caller.identity if caller else _address(scope)


def _let_in(rule: Rule, grant: Grant) -> Access:
    caller, seconds_left = grant
    if not caller.scopes.isdisjoint(rule.scopes):
        return Access(caller, False, seconds_left)
    if rule.own and SELF in caller.scopes:
        return Access(caller, True, seconds_left)
    raise forbidden(f"the token has none of the scopes that open this: {', '.join(rule.scopes)}", scope=rule.scope)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""
