"""The parts of the OpenAPI document that the framework does not derive from the route: answers, headers, errors."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from fastapi import FastAPI

from chassis.http.access_document import declare_access
from chassis.http.problems import (
    BUSY,
    INTERNAL,
    NOT_ACCEPTABLE,
    UNAVAILABLE,
    VALIDATION,
    ProblemType,
    problem_content,
)
from event_api.access import ACCESS
from event_api.http.stream import MEDIA_TYPE

Json = dict[str, Any]

USER_ID: Final = "0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3a"
_REQUEST_ID: Final = "0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3b"
POSITION: Final = "AQGSwY7bFnK3n2G0gqzZ5VsAAAAAabcTJAAAAAAAAAAq0Qv2c1lH3nq8m5r7s0xYTQ"
_EVENT: Final[Json] = {
    "id": "0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3c",
    "type": "muster.user.email_changed.v1",
    "time": "2026-11-22T14:15:16.123456Z",
    "user_id": USER_ID,
    "version": 2,
    "actor": "shop",
    "on_behalf_of": None,
    "changed": ["email", "email_verified"],
    "token": "AQGS8MF6PnxOnVMKbx0cKzoC",
}
_STREAM: Final = (
    f"id: {POSITION}\n\nevent: muster.user.registered.v1\ndata: {{…}}\nid: {POSITION}\n\n"
    f"event: caught-up\ndata: {{}}\nid: {POSITION}\n\n: still here\nid: {POSITION}\n\n"
)


def nullable(**schema: Any) -> Json:
    """A schema that takes null as well."""
    return {**schema, "type": [schema["type"], "null"]}


SCHEMAS: Final[Json] = {
    "Event": {
        "type": "object",
        "description": "One change of a user. Members that you do not know may come; ignore them.",
        "required": ["id", "type", "time", "user_id", "version", "actor", "on_behalf_of", "changed"],
        "properties": {
            "id": {"type": "string", "format": "uuid", "description": "The event's, the same in any republication."},
            "type": {"type": "string", "description": "Its name and version. New types may come."},
            "time": {"type": "string", "format": "date-time", "description": "When it was committed."},
            "user_id": {"type": "string", "format": "uuid"},
            "version": {"type": "integer", "minimum": 1, "description": "The user's, after the event."},
            "actor": nullable(type="string", description="Who made the change."),
            "on_behalf_of": nullable(type="string", description="For whom, where the actor acted for somebody."),
            "changed": {
                "type": "array",
                "items": {"type": "string"},
                "description": "The user's fields that changed; empty for registered, erased and snapshots.",
            },
            "token": {
                "type": "string",
                "description": "A Consistency-Token: a query with it never shows the user as it was before the event."
                " Absent for erased.",
            },
            "user": nullable(type="object", description="With full=true: the user after the event; null for erased."),
            "previous": {"type": "object", "description": "With full=true: the old values of what changed."},
        },
        "example": _EVENT,
    },
    "Page": {
        "type": "object",
        "required": ["data", "next", "caught_up"],
        "properties": {
            "data": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
            "next": {"type": "string", "description": "The position after the page: `after` of the next one."},
            "caught_up": {
                "type": "boolean",
                "description": "Whether you have everything that was on the topic when you asked. False: there is more,"
                " maybe of what the filter leaves out; ask for the next page.",
            },
        },
        "example": {"data": [_EVENT], "next": POSITION, "caught_up": True},
    },
    "Problem": {
        "type": "object",
        "description": "RFC 9457. `type` is the address of a page that says what happened and what to do.",
        "required": ["type", "title", "status", "detail", "instance", "request_id"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": "string", "format": "uri-reference"},
            "request_id": {"type": "string"},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["detail"],
                    "properties": {name: {"type": "string"} for name in ("detail", "pointer", "parameter", "header")},
                },
            },
        },
    },
}


def _text(description: str, example: str) -> Json:
    return {"description": description, "schema": {"type": "string"}, "example": example}


_HEADERS: Final[Json] = {
    "Retry-After": _text("Seconds after which to try again.", "2"),
    "X-Request-Id": _text("The request's id: yours, or one of ours.", _REQUEST_ID),
    "Preference-Applied": _text("The wait that was granted.", "wait=20"),
}


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, "X-Request-Id")}


def _parameter(name: str, description: str, example: str) -> Json:
    schema = {"type": "string", "examples": [example]}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


PARAMETERS: Final = [
    _parameter("Last-Event-ID", "Begin after this position; it goes before `after` and `from`.", POSITION),
    _parameter("Prefer", "With a page: `wait=N`, how many seconds to wait for a first event, 55 at most.", "wait=20"),
]
_ANY_REQUEST: Final = (BUSY, INTERNAL, NOT_ACCEPTABLE, UNAVAILABLE, VALIDATION)
Responses = dict[int | str, Json]
STREAM: Final[Responses] = {
    200: {
        "description": "Events as they come, without an end; with `Accept: application/json` one page of them.",
        "headers": _headers("Preference-Applied"),
        "content": {
            MEDIA_TYPE: {"schema": {"type": "string"}, "example": _STREAM},
            "application/json": {"schema": {"$ref": "#/components/schemas/Page"}},
        },
    }
}


def shows(status: int, description: str, schema: str | None = None) -> Responses:
    """A success, with one of the shared schemas or without a body."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {
        status: {"description": description, "headers": _headers(), **({"content": content} if schema else {})},
    }


def responses(successes: Responses, *problems: ProblemType) -> Responses:
    """The answers of a route: its successes, its own problems, and those that any can have."""
    described = {**successes}
    by_status: dict[int, list[ProblemType]] = defaultdict(list)
    for kind in sorted((*problems, *_ANY_REQUEST), key=lambda kind: kind.slug):
        by_status[kind.status].append(kind)
    for status, kinds in sorted(by_status.items()):
        described[status] = {
            "description": "; ".join(f"[{kind.title}]({kind.uri})" for kind in kinds),
            "headers": _headers(*(["Retry-After"] if status == UNAVAILABLE.status else [])),
            "content": problem_content(kinds, request_id=_REQUEST_ID),
        }
    return described


def complete(app: FastAPI, *, schemas: Json, paths: Json) -> None:
    """Have the app's document include these schemas, these paths, which are not the framework's, and who may."""
    make = app.openapi

    def openapi() -> Json:
        document = make()
        components = document.setdefault("components", {})
        if "securitySchemes" not in components:
            components.setdefault("schemas", {}).update(schemas)
            components["headers"] = dict(_HEADERS)
            document["paths"].update(paths)
            declare_access(document, ACCESS)
        return document

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend the document
