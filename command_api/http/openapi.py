"""The parts of the OpenAPI document that FastAPI does not derive from the routes: headers, errors, examples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi import FastAPI

from chassis.http.access_document import declare_access
from chassis.http.problems import (
    BUSY,
    INTERNAL,
    MALFORMED,
    NOT_ACCEPTABLE,
    PAYLOAD_TOO_LARGE,
    UNAVAILABLE,
    UNSUPPORTED_MEDIA_TYPE,
    VALIDATION,
    ProblemType,
    problem_content,
)
from command_api.access import ACCESS
from command_api.http.headers import IF_MATCH
from command_api.idempotency.keys import KEY_CHARACTERS, KEY_PATTERN
from command_api.passwords.rules import LEAST_CHARACTERS
from command_api.problems import CONFLICT, KEY_IN_USE, KEY_REUSED, OUTCOME_UNKNOWN, USER_ERASED

EXAMPLE_ID: Final = "0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3a"
_EXAMPLE_REQUEST_ID: Final = "0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3b"
_TOKEN: Final = "AQGS8MF6PnxOnVMKbx0cKzoB"  # noqa: S105 - a consistency token, which guards nothing

NEW_USER_EXAMPLE: Final = {
    "id": EXAMPLE_ID,
    "email": "ann@example.com",
    "username": "ann",
    "email_verified": False,
    "display_name": "Ann Example",
    "attributes": {"plan": "pro"},
    "is_active": True,
    "status": "active",
    "version": 1,
    "created_at": "2026-11-22T14:15:16.123456Z",
    "updated_at": "2026-11-22T14:15:16.123456Z",
}


def _text(description: str, example: str, **schema: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", **schema}, "example": example}


ANSWER_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "ETag": _text("The user's version after the command, for If-Match.", '"1"', pattern='^"[1-9][0-9]*"$'),
    "Consistency-Token": _text("Send it to the query API to read what this command did.", _TOKEN),
    "Location": _text("The user on the query API.", f"http://127.0.0.1:8001/users/{EXAMPLE_ID}", format="uri"),
    "Device-Token": _text("With it, the device that sent the request is a known one.", "AQGS8MF6PnxOnVMKbx0cKzo"),
    "Idempotent-Replayed": _text("Present where this is the stored answer to an earlier request.", "true"),
    "Retry-After": _text("Seconds after which to try again.", "1", pattern="^[0-9]+$"),
    "X-Request-Id": _text("The request's id: yours, or one of ours.", _EXAMPLE_REQUEST_ID),
    "Accept": _text("The media types this route takes.", "application/json"),
    "Accept-Patch": _text("The media types this route takes.", "application/merge-patch+json, application/json"),
}

PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "An error as RFC 9457 has it; type leads to a page that says what happened and what to do.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri-reference"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "detail": {"type": "string"},
                    "pointer": {"type": "string", "description": "where in the body, as a JSON pointer"},
                    "parameter": {"type": "string"},
                    "header": {"type": "string"},
                },
            },
        },
    },
}

# Examples stand in the schemas: those of parameters would be filled in, and sent, by whoever tries a command in /docs.
_REQUEST_ID: Final = {
    "name": "X-Request-Id",
    "in": "header",
    "required": False,
    "description": "1 to 128 of A-Za-z0-9._- are echoed, logged, and the event's correlation id; else one of ours.",
    "schema": {"type": "string", "examples": ["checkout-4711"]},
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same request with the same key, within 24 hours, gets the same answer and runs nothing twice.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": KEY_CHARACTERS + 2,
        "pattern": KEY_PATTERN,
        "examples": ["8e03978e-40d5-43e8-bc93-6894a57f9324"],
    },
}
_IF_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "Apply the command to these versions only (the ETag you saw), else answer 412.",
    "schema": {"type": "string", "pattern": IF_MATCH, "examples": ['"1"']},
}

#: The problems that any route, and any command, can be answered with.
_ANY_ROUTE: Final = (MALFORMED, NOT_ACCEPTABLE, PAYLOAD_TOO_LARGE, VALIDATION, INTERNAL, UNAVAILABLE)
_ANY_COMMAND: Final = (*_ANY_ROUTE, BUSY, OUTCOME_UNKNOWN, CONFLICT, KEY_IN_USE, KEY_REUSED, USER_ERASED)


def headers(*names: str) -> dict[str, Any]:
    """References to these headers."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, "X-Request-Id")}


def responses(
    *problems: ProblemType, body: bool, success: Mapping[int | str, dict[str, Any]]
) -> dict[int | str, dict[str, Any]]:
    """The answers of one command: its success, its own problems, and those that any command can have."""
    kinds = {*problems, *_ANY_COMMAND}
    if body:
        kinds.add(UNSUPPORTED_MEDIA_TYPE)
    return {**_problem_responses(kinds), **success}


def keyless_responses(
    *problems: ProblemType, success: Mapping[int | str, dict[str, Any]]
) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that takes a body, no key and no version."""
    return {**_problem_responses({*problems, *_ANY_ROUTE, UNSUPPORTED_MEDIA_TYPE}), **success}


def user_response(status: int, description: str, *more: str) -> dict[int | str, dict[str, Any]]:
    """A success that shows the user."""
    return {
        status: {
            "description": description,
            "headers": headers("ETag", "Consistency-Token", *more),
            "content": {"application/json": {"example": {**NEW_USER_EXAMPLE}}},
        }
    }


def empty_response(description: str, *more: str) -> dict[int | str, dict[str, Any]]:
    """A success that shows nothing."""
    return {204: {"description": description, "headers": headers("ETag", "Consistency-Token", *more)}}


def _problem_responses(kinds: Iterable[ProblemType]) -> dict[int | str, dict[str, Any]]:
    """One response a status, with an example of each problem type that has it."""
    by_status: dict[int, list[ProblemType]] = defaultdict(list)
    for kind in sorted(kinds, key=lambda kind: (kind.status, kind.slug)):
        by_status[kind.status].append(kind)
    return {status: _problem_response(of_status) for status, of_status in by_status.items()}


def _problem_response(kinds: list[ProblemType]) -> dict[str, Any]:
    extra = {
        412: ("ETag",),
        429: ("Retry-After",),
        409: ("Retry-After",),
        415: ("Accept", "Accept-Patch"),
        503: ("Retry-After",),
    }
    return {
        "description": "; ".join(f"[{kind.title}]({kind.uri})" for kind in kinds),
        "headers": headers(*extra.get(kinds[0].status, ())),
        "content": problem_content(kinds, request_id=_EXAMPLE_REQUEST_ID),
    }


def request(*, if_match: bool, examples: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The `openapi_extra` of a command: what it takes beside its path, headers, and examples by media type."""
    extra: dict[str, Any] = {"parameters": [_IDEMPOTENCY_KEY, *([_IF_MATCH] if if_match else []), _REQUEST_ID]}
    if examples:
        extra["requestBody"] = {"content": {name: {"example": example} for name, example in examples.items()}}
    return extra


def keyless_request(**body: Any) -> dict[str, Any]:
    """The `openapi_extra` of a route that takes no key and no version; `body` is its `requestBody`."""
    return {"parameters": [_REQUEST_ID], "requestBody": body}


def complete(app: FastAPI, *, least_password: int) -> None:
    """Have the app's document include the shared components, and the characters that a new password has at least."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        components = document.setdefault("components", {})
        components.setdefault("headers", {}).update(ANSWER_HEADERS)
        components.setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
        if "securitySchemes" not in components:
            declare_access(document, ACCESS)
            _declare_least(document, least_password)
        for leftover in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(leftover, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend the document


def _declare_least(part: Any, least: int) -> None:
    """Write the least number of characters of new passwords, which is a setting, wherever one may be sent."""
    if isinstance(part, dict):
        if part.get("format") == "password" and part.get("minLength") == LEAST_CHARACTERS:
            part["minLength"] = least
        part = [*part.values()]
    if isinstance(part, list):
        for each in part:
            _declare_least(each, least)
