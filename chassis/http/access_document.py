"""The part of an OpenAPI document on access: which scope opens each operation, and how it is refused."""

from __future__ import annotations

from typing import Any, Final

from chassis.access.hosts import MISDIRECTED
from chassis.access.problems import CHALLENGE, FORBIDDEN, UNAUTHENTICATED
from chassis.access.rates import TOO_MANY_REQUESTS
from chassis.access.rules import AccessTable, Rule
from chassis.http.problems import (
    HEAD_TOO_LARGE,
    NOT_IMPLEMENTED,
    PROBLEM_MEDIA_TYPE,
    REQUEST_TIMEOUT,
    TARGET_TOO_LONG,
    ProblemType,
    problem_example,
)

Json = dict[str, Any]

_SCHEME: Final = "bearer"
_REQUEST_ID: Final = "0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3b"
_SECURITY_SCHEME: Final[Json] = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "A token of the issuer that this service trusts. On a local stack `muster token` prints one.",
}
_CHALLENGE: Final[Json] = {
    "description": "How the token was refused (RFC 6750): `error`, and the `scope` that is missing.",
    "required": True,
    "schema": {"type": "string"},
    "example": 'Bearer error="insufficient_scope", scope="users:read"',
}

#: The refusals ahead of the routes, each with the header that it brings.
_REFUSALS: Final[tuple[tuple[Any, ...], ...]] = (
    (UNAUTHENTICATED, CHALLENGE),
    (FORBIDDEN, CHALLENGE),
    (REQUEST_TIMEOUT,),
    (TARGET_TOO_LONG,),
    (MISDIRECTED,),
    (TOO_MANY_REQUESTS, "Retry-After"),
    (HEAD_TOO_LARGE,),
    (NOT_IMPLEMENTED,),
)


def declare_access(document: Json, table: AccessTable) -> None:
    """Add the scheme to a document, and to each operation of the table its security and its refusals."""
    components = document.setdefault("components", {})
    components["securitySchemes"] = {_SCHEME: _SECURITY_SCHEME}
    components.setdefault("headers", {})[CHALLENGE] = _CHALLENGE
    for rule in table:
        operation = document["paths"].get(rule.path, {}).get(rule.method.lower())
        if operation is not None:
            _declare(operation, rule)


def _declare(operation: Json, rule: Rule) -> None:
    operation["security"] = [{_SCHEME: []}]
    operation["description"] = "\n\n".join(filter(None, (operation.get("description"), _words(rule))))
    for kind, *named in _REFUSALS:
        _add_refusal(operation["responses"].setdefault(str(kind.status), {}), kind, *named)
    operation["responses"] = dict(sorted(operation["responses"].items(), key=lambda each: str(each[0])))


def _words(rule: Rule) -> str:
    scopes = " or ".join(f"`{scope}`" for scope in rule.scopes)
    own = ", or `self` for what is the caller's own" if rule.own else ""
    return f"Scope: {scopes}{own}."


def _add_refusal(response: Json, kind: ProblemType, *named: str) -> None:
    """Add a refusal, with the headers that it brings."""
    said = f"[{kind.title}]({kind.uri})"
    response["description"] = f"{response['description']}; {said}" if "description" in response else said
    references = {name: {"$ref": f"#/components/headers/{name}"} for name in (*named, "X-Request-Id")}
    if PROBLEM_MEDIA_TYPE in response.get("content", {}):
        # Another problem has this status, too, and brings no such headers.
        references = {name: each for name, each in references.items() if name not in named}
    response["headers"] = {**response.get("headers", {}), **references}
    content = response.setdefault("content", {}).setdefault(PROBLEM_MEDIA_TYPE, {})
    content["schema"] = {"$ref": "#/components/schemas/Problem"}
    content.setdefault("examples", {})[kind.slug] = problem_example(kind, request_id=_REQUEST_ID)
