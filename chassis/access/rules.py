"""What opens each route: one table an API, from which come the checks, OpenAPI's security and docs/reference."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from chassis.http.problems import METHOD_NOT_ALLOWED, NOT_FOUND, Problem

#: The beginning of a template's variable segment: `{id}`.
_OPENING: Final = "{"


@dataclass(frozen=True, slots=True)
class Rule:
    """One route: any of the scopes opens it; with `own` also `self`, for what is the subject's own."""

    method: str
    path: str
    scopes: tuple[str, ...]
    own: bool = False
    #: The class of requests by which callers are limited, and the one beside it for callers who are let in by `self`.
    limit: str = "commands"
    own_limit: str | None = None

    @property
    def scope(self) -> str:
        """The scope to ask for."""
        return self.scopes[0]


#: Every API shows these to everybody: a path, or with a `/` at its end all below it.
PUBLIC: Final = (
    "/",
    "/health",
    "/livez",
    "/readyz",
    "/docs",
    "/docs/",
    "/redoc",
    "/static-offline-docs/",
    "/openapi.json",
    "/problems/",
)


class UncoveredRouteError(Exception):
    """A route of the app says nothing about access."""


class AccessTable:
    """The rules of one API, found by method and path."""

    def __init__(self, rules: Iterable[Rule], *, public: Iterable[str] = ()) -> None:
        """`public` comes beside `PUBLIC`, and is written as that is."""
        self._rules = tuple(rules)
        self._public = (*PUBLIC, *public)
        #: By method and number of parts.
        self._candidates: dict[tuple[str, int], list[tuple[re.Pattern[str], Rule]]] = {}
        #: The methods of each path without a variable part that fits another rule's template as well.
        self._methods_of: dict[str, set[str]] = {}
        for rule in self._rules:
            if _OPENING not in rule.path and any(_also_fits(other.path, rule.path) for other in self._rules):
                # HEAD works wherever GET does.
                methods = {rule.method, "HEAD"} if rule.method == "GET" else {rule.method}
                self._methods_of.setdefault(rule.path, set()).update(methods)
        for rule in self._rules:
            self._candidates.setdefault((rule.method, rule.path.count("/")), []).append((_pattern(rule.path), rule))

    def __iter__(self) -> Iterator[Rule]:
        """The rules, in their order."""
        return iter(self._rules)

    @staticmethod
    def is_disguised(path: str) -> bool:
        """Tell whether the framework would mistake the path for a route's; a guard must refuse it.

        The framework's patterns end in `$`, which also matches before a line's end.
        """
        return path.endswith("\n")

    def find(self, method: str, path: str) -> Rule | None:
        """Return the rule of a request; None if its route is public or there is none.

        Every guard asks here, so this refuses what the framework would misread.

        Raises:
            Problem: 404, 405: the path only looks like a route's.
        """
        if self.is_disguised(path):
            raise Problem(NOT_FOUND, NOT_FOUND.meaning)
        if methods := self.other_methods(method, path):
            raise Problem(METHOD_NOT_ALLOWED, METHOD_NOT_ALLOWED.meaning, headers={"Allow": ", ".join(methods)})
        for pattern, rule in self._candidates.get(("GET" if method == "HEAD" else method, path.count("/")), ()):
            if pattern.fullmatch(path):
                return rule
        return None

    def other_methods(self, method: str, path: str) -> list[str]:
        """Return the methods of a fixed path such as `/users/import` that lacks this one; else nothing.

        The framework would take `import` for an id of a template that has this method.
        """
        found = self._methods_of.get(path)
        return sorted(found) if found and method not in found else []

    def is_public(self, path: str) -> bool:
        """Tell whether anybody may read this path, or the paths of this template."""
        return any(
            path.startswith(public) if public.endswith("/") and public != "/" else path == public
            for public in self._public
        )

    def require_cover(self, routes: Iterable[tuple[str, str]]) -> None:
        """Return where each of an app's routes, by method and template, has a rule or is public.

        Raises:
            UncoveredRouteError: a route has neither.
        """
        ruled = {(rule.method, rule.path) for rule in self._rules}
        for named, path in routes:
            method = "GET" if named == "HEAD" else named
            if (method, path) not in ruled and not (method == "GET" and self.is_public(path)):
                raise UncoveredRouteError(f"{method} {path} says nothing about access: add it to the access table")


def _also_fits(template: str, path: str) -> bool:
    """Tell whether a template with a variable part also fits the path."""
    return _OPENING in template and _pattern(template).fullmatch(path) is not None


def _pattern(template: str) -> re.Pattern[str]:
    """What paths of a template look like: something stands in each variable part."""
    return re.compile("/".join("[^/]+" if part[:1] == _OPENING else re.escape(part) for part in template.split("/")))
