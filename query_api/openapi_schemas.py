"""The schemas, headers and examples of the OpenAPI document; openapi.py puts them together."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

_EXAMPLE_ID: Final = "018f3c5a-7b1e-7cc2-9a51-0242ac120002"
_TIME: Final[Json] = {"type": "string", "format": "date-time"}

USER_EXAMPLE: Final[Json] = {
    "id": _EXAMPLE_ID,
    "email": "ann@example.com",
    "username": "ann",
    "email_verified": True,
    "display_name": "Ann Example",
    "attributes": {"plan": "basic"},
    "is_active": True,
    "status": "active",
    "version": 3,
    "created_at": "2026-11-22T08:30:00.000000Z",
    "updated_at": "2026-11-22T09:00:00.000000Z",
}
ENTRY_EXAMPLE: Final[Json] = {
    "event_id": "018f3c5a-7b1e-7cc2-9a51-0242ac120003",
    "type": "email_changed",
    "version": 3,
    "time": "2026-11-22T09:00:00.000000Z",
    "changes": {"email": {"from": "old@example.com", "to": "ann@example.com"}},
    "reason": None,
}
USERS_EXAMPLE: Final[Json] = {"data": [USER_EXAMPLE], "next_cursor": "AQJrMc3Zb2k", "has_more": True}
TIMELINE_EXAMPLE: Final[Json] = {"data": [ENTRY_EXAMPLE], "next_cursor": None, "has_more": False}
SIGNUPS_EXAMPLE: Final[Json] = {"data": [{"day": "2026-11-22", "active": 41, "deactivated": 1}]}


def _object(properties: Json, *, optional: tuple[str, ...] = (), description: str = "") -> Json:
    schema: Json = {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }
    return {**schema, "description": description} if description else schema


def _list_of(name: str) -> Json:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}


def _page_of(name: str) -> Json:
    return _object(
        {
            "data": _list_of(name),
            "next_cursor": {"type": ["string", "null"], "description": "Pass it as `cursor`; null on the last page."},
            "has_more": {"type": "boolean"},
        }
    )


SCHEMAS: Final[Json] = {
    "User": _object(
        {
            "id": {"type": "string", "format": "uuid"},
            "email": {"type": "string", "format": "email"},
            "username": {"type": "string"},
            "email_verified": {"type": "boolean"},
            "display_name": {"type": ["string", "null"]},
            "attributes": {"type": "object", "additionalProperties": True},
            "is_active": {"type": "boolean"},
            "status": {"type": "string", "enum": ["active", "deactivated"]},
            "version": {"type": "integer", "minimum": 1, "description": "Grows by one with every change."},
            "created_at": _TIME,
            "updated_at": _TIME,
        }
    ),
    "UserPage": _page_of("User"),
    "TimelineEntry": _object(
        {
            "event_id": {"type": "string", "format": "uuid"},
            "type": {"type": "string", "description": "What happened, such as `registered` or `email_changed`."},
            "version": {"type": "integer", "minimum": 1},
            "time": _TIME,
            "changes": {
                "type": "object",
                "additionalProperties": {"$ref": "#/components/schemas/Change"},
                "description": "The fields that changed, by name.",
            },
            "reason": {"type": ["string", "null"]},
        }
    ),
    "Change": _object({"from": {"description": "The value before."}, "to": {"description": "The value after."}}),
    "TimelinePage": _page_of("TimelineEntry"),
    "SignupsDay": _object(
        {
            "day": {"type": "string", "format": "date"},
            "active": {"type": "integer", "minimum": 0},
            "deactivated": {"type": "integer", "minimum": 0},
        }
    ),
    "Signups": _object({"data": _list_of("SignupsDay")}),
    "Health": _object({"status": {"type": "string"}, "version": {"type": "string"}}),
    "Checks": _object(
        {
            "status": {"type": "string", "enum": ["ok", "failed"]},
            "checks": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    ),
    "Problem": _object(
        {
            "type": {"type": "string", "format": "uri-reference"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": "string", "format": "uri-reference"},
            "request_id": {"type": "string"},
            "errors": _list_of("FieldError"),
        },
        optional=("errors",),
        description="RFC 9457. `type` is the address of a page that says what happened and what to do.",
    ),
    "FieldError": _object(
        {
            "detail": {"type": "string"},
            "pointer": {"type": "string"},
            "parameter": {"type": "string"},
            "header": {"type": "string"},
        },
        optional=("pointer", "parameter", "header"),
    ),
}


def _header(description: str, example: Any, schema: Json | None = None, *, always: bool = True) -> Json:
    return {
        "description": description,
        "required": always,
        "schema": schema or {"type": "string"},
        "example": example,
    }


_COUNT: Final[Json] = {"type": "integer", "minimum": 0}

HEADERS: Final[Json] = {
    "As-Of": _header(
        "The time up to which everything that happened is certainly in this answer.",
        "2026-11-22T09:00:00.000000Z",
        _TIME,
        always=False,
    ),
    "Cache-Control": _header("Who may keep the answer, and how.", "no-store"),
    "Consistency-Token": _header("User and version that this answer shows.", "AQGPPFp7HnzCmlECQqwSAAID"),
    "ETag": _header("Version of the user and of the document's shape.", '"3.1"'),
    "Link": _header("The next page, where there is one.", '</users?limit=50&cursor=AQ>; rel="next"', always=False),
    "Preference-Applied": _header("Which preferences were followed.", "wait=10", always=False),
    "Retry-After": _header("Seconds after which to ask again.", 1, _COUNT, always=False),
    "Vary": _header("The headers that this answer depends on.", "Accept, Consistency-Token, Prefer"),
    "X-Request-Id": _header("The id of this request, as in the logs.", "018f3c5a-7b1e-7cc2-9a51-0242ac120004"),
    "X-Total-Count": _header("How many users match, where `Prefer: count=exact` asked.", 1204, _COUNT, always=False),
}


def _request_header(name: str, description: str, example: str, schema: Json | None = None) -> Json:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": schema or {"type": "string"},
        "example": example,
    }


REQUEST_HEADERS: Final[Json] = {
    "Consistency-Token": _request_header(
        "Consistency-Token",
        "Answer only once these versions are visible: tokens from commands or queries, at most 20, comma-separated.",
        "AQGPPFp7HnzCmlECQqwSAAID",
    ),
    "Prefer": _request_header(
        "Prefer",
        "`wait=<seconds>`: how long to wait for the Consistency-Token (1 by default, 10 at most)."
        " `count=exact` (list only): count all matches into X-Total-Count.",
        "wait=5",
    ),
    "If-None-Match": _request_header("If-None-Match", "ETags that the client has; 304 where one is current.", '"3.1"'),
    "X-Request-Id": _request_header("X-Request-Id", "An id of the client's for this request.", "checkout-4711"),
}

PATH_ID: Final[Json] = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The user's id.",
    "schema": {"type": "string", "format": "uuid"},
    "example": _EXAMPLE_ID,
}
