"""The OpenAPI document of the query API: its routes are plain ASGI, so it is built here and not by the framework.

Query parameters describe themselves where they are declared, and problems in their types; everything else stands here:
first schemas, headers and examples, then the operations that put them together. A test compares the document with the
routes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from chassis import __version__
from chassis.http import problems
from chassis.http.problems import ProblemType, problem_content
from query_api.protocol.exchange import JSON_MEDIA_TYPE
from query_api.protocol.parameters import Parameter
from query_api.protocol.problems import (
    COUNT_TOO_EXPENSIVE,
    INVALID_CURSOR,
    NOT_YET_VISIBLE,
    SKIP_TOO_DEEP,
    TOO_EXPENSIVE,
)
from query_api.users.detail import UserDetail
from query_api.users.digest import UserDigest
from query_api.users.listing import UserList
from query_api.users.search import UserSearch
from query_api.users.signups import Signups
from query_api.users.timeline import UserTimeline

Json = dict[str, Any]

_EXAMPLE_ID: Final = "018f3c5a-7b1e-7cc2-9a51-0242ac120002"
_TIME: Final[Json] = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Final[Json] = {"type": ["string", "null"], "format": "date-time"}

_USER_EXAMPLE: Final[Json] = {
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
_ENTRY_EXAMPLE: Final[Json] = {
    "event_id": "018f3c5a-7b1e-7cc2-9a51-0242ac120003",
    "type": "email_changed",
    "version": 3,
    "time": "2026-11-22T09:00:00.000000Z",
    "changes": {"email": {"from": "old@example.com", "to": "ann@example.com"}},
    "reason": None,
    "actor": "self",
    "on_behalf_of": None,
    "partition": 3,
    "offset": 4711,
    "committed_at": "2026-11-22T09:00:00.000000Z",
    "published_at": "2026-11-22T09:00:00.012000Z",
    "applied_at": "2026-11-22T09:00:00.031415Z",
}
_USERS_EXAMPLE: Final[Json] = {"data": [_USER_EXAMPLE], "next_cursor": "AQJrMc3Zb2k", "has_more": True}
_TIMELINE_EXAMPLE: Final[Json] = {"data": [_ENTRY_EXAMPLE], "next_cursor": None, "has_more": False}
_DIGEST_EXAMPLE: Final[Json] = {
    "data": [{"from": None, "to": None, "count": 42, "digest": "0c5c56dcaf5b54b2b6c1a6ab0a4d5a3e"}]
}
_SIGNUPS_EXAMPLE: Final[Json] = {"data": [{"day": "2026-11-22", "active": 41, "deactivated": 1}]}


def _object(properties: Json, *, optional: tuple[str, ...] = (), description: str = "") -> Json:
    schema: Json = {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }
    return {**schema, "description": description} if description else schema


def _list_of(*names: str) -> Json:
    items = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    return {"type": "array", "items": items[0] if len(items) == 1 else {"anyOf": items}}


def _page_of(*names: str) -> Json:
    return _object(
        {
            "data": _list_of(*names),
            "next_cursor": {"type": ["string", "null"], "description": "Pass it as `cursor`; null on the last page."},
            "has_more": {"type": "boolean"},
        }
    )


_COMPONENT_SCHEMAS: Final[Json] = {
    "User": _object(
        {
            "id": {"type": "string", "format": "uuid"},
            "email": {"type": "string", "format": "idn-email"},
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
            "actor": {
                "type": ["string", "null"],
                "description": "Who made the change: an id, or `self` for the user."
                " This and the rest is null where it was not kept.",
            },
            "on_behalf_of": {"type": ["string", "null"], "description": "For whom, where the actor acted for another."},
            "partition": {"type": ["integer", "null"], "minimum": 0},
            "offset": {"type": ["integer", "null"], "minimum": 0, "description": "The record's, on its partition."},
            "committed_at": _TIME_OR_NULL,
            "published_at": _TIME_OR_NULL,
            "applied_at": _TIME_OR_NULL,
        }
    ),
    "TimelineGap": _object(
        {
            "event": {"type": "string", "const": "gap"},
            "from_version": {"type": "integer", "minimum": 1},
            "to_version": {"type": "integer", "minimum": 1},
        },
        description="The changes that led to these versions are not known any more.",
    ),
    "Change": _object({"from": {"description": "The value before."}, "to": {"description": "The value after."}}),
    "TimelinePage": _page_of("TimelineEntry", "TimelineGap"),
    "SignupsDay": _object(
        {
            "day": {"type": "string", "format": "date"},
            "active": {"type": "integer", "minimum": 0},
            "deactivated": {"type": "integer", "minimum": 0},
        }
    ),
    "Signups": _object({"data": _list_of("SignupsDay")}),
    "DigestPart": _object(
        {
            "from": {"type": ["string", "null"], "format": "uuid", "description": "First id; null where none is."},
            "to": {"type": ["string", "null"], "format": "uuid", "description": "Behind the last id; null as above."},
            "count": {"type": "integer", "minimum": 0},
            "digest": {
                "type": "string",
                "pattern": "^[0-9a-f]{32}$",
                "description": "XOR of the first 16 bytes of each user's SHA-256(16 bytes id, 8 bytes version).",
            },
        }
    ),
    "Digest": _object({"data": _list_of("DigestPart")}),
    "Health": _object({"status": {"type": "string"}, "version": {"type": "string"}}),
    "Status": _object({"status": {"type": "string", "enum": ["ok", "failed"]}}),
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

_HEADERS: Final[Json] = {
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
        # The example is in the schema: those of parameters would be filled in, and sent, by whoever tries a query in
        # /docs.
        "schema": {**(schema or {"type": "string"}), "examples": [example]},
    }


_REQUEST_HEADERS: Final[Json] = {
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


_EVERY_ROUTE: Final = (problems.NOT_ACCEPTABLE, problems.VALIDATION, problems.INTERNAL, problems.UNAVAILABLE)
_EVERY_QUERY: Final = (problems.MALFORMED, problems.PAYLOAD_TOO_LARGE, NOT_YET_VISIBLE, problems.BUSY, TOO_EXPENSIVE)
_ALWAYS: Final = ("As-Of", "Cache-Control", "Vary", "X-Request-Id", "Preference-Applied")


def build(*, title: str, summary: str) -> Json:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "summary": summary, "version": __version__, "license": {"name": "Apache-2.0"}},
        "tags": [
            {"name": "users", "description": "Users as the read side has them."},
            {"name": "statistics", "description": "Figures over users."},
            {"name": "operations", "description": "Whether this process lives and works."},
        ],
        "paths": _paths(),
        "components": {"schemas": {**_COMPONENT_SCHEMAS, "UserSearch": _search_schema()}, "headers": dict(_HEADERS)},
    }


def _paths() -> Json:
    return {
        UserList.path: {"get": _list_users()},
        UserSearch.path: {"post": _search_users()},
        UserDigest.path: {"get": _get_digest()},
        UserDetail.path: {"get": _get_user()},
        UserTimeline.path: {"get": _get_timeline()},
        Signups.path: {"get": _get_signups()},
        "/health": {"get": _probe("getHealth", "What runs here", "Health", {"status": "ok", "version": __version__})},
        "/livez": {"get": _probe("getLiveness", "Whether the process lives", "Status", {"status": "ok"})},
        "/readyz": {"get": _probe("getReadiness", "Whether it can answer queries now", "Status", {"status": "ok"})},
    }


def _get(  # noqa: PLR0913 - what is said of an operation
    operation: str, summary: str, parameters: Sequence[Json], responses: Json, own: Sequence[ProblemType] = (), *,
    tag: str = "users",
) -> Json:  # fmt: skip
    """One query: `responses` are its successes, `own` the problems that not every query has."""
    return {
        "operationId": operation,
        "tags": [tag],
        "summary": summary,
        "parameters": [*parameters, *_request_headers()],
        "responses": {**responses, **_problems(*_EVERY_ROUTE, *_EVERY_QUERY, *own)},
    }


def _list_users() -> Json:
    listed = _get(
        "listUsers",
        "Users, page by page",
        [*map(_query_parameter, UserList.parameters.known)],
        {"200": _answer("A page of users.", "UserPage", _USERS_EXAMPLE, (*_ALWAYS, "Link", "X-Total-Count"))},
        (INVALID_CURSOR, SKIP_TOO_DEEP, COUNT_TOO_EXPENSIVE),
    )
    told = "Filters combine with each other and with every sort. Follow `next_cursor` or the Link header."
    return {**listed, "description": told}


def _search_users() -> Json:
    listed = _list_users()
    return {
        "operationId": "searchUsers",
        "tags": ["users"],
        "summary": "Users, page by page, without addresses in the URL",
        "description": "The parameters of the list as members of a JSON body; the same pages, the same cursors.",
        "parameters": _request_headers(),
        "requestBody": {
            "required": True,
            "content": {
                JSON_MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/UserSearch"},
                    "example": {"email": "ann@example.com", "limit": 10},
                }
            },
        },
        "responses": {**listed["responses"], **_problems(problems.UNSUPPORTED_MEDIA_TYPE)},
    }


def _search_schema() -> Json:
    """The list's parameters as the members of an object."""
    members: Json = {}
    for parameter in UserList.parameters.known:
        schema = parameter.schema
        if parameter.most > 1:
            schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": parameter.most}
        members[parameter.name] = {**schema, "description": parameter.description}
    return {"type": "object", "properties": members, "additionalProperties": False}


def _get_digest() -> Json:
    return _get(
        "getUserDigest",
        "Digests of ranges of users, to compare a copy with",
        [*map(_query_parameter, UserDigest.parameters.known)],
        {"200": _answer("One entry a part, in the order of ids.", "Digest", _DIGEST_EXAMPLE, _ALWAYS)},
    )


def _get_user() -> Json:
    shown = (*_ALWAYS, "ETag", "Consistency-Token")
    responses = {
        "200": _answer("The user.", "User", _USER_EXAMPLE, shown),
        "304": {"description": "The client has the current version.", "headers": _headers(shown)},
    }
    parameters = [PATH_ID, _REQUEST_HEADERS["If-None-Match"]]
    return _get("getUser", "One user", parameters, responses, [problems.NOT_FOUND])


def _get_timeline() -> Json:
    shown = (*_ALWAYS, "Link", "Consistency-Token")
    return _get(
        "getUserTimeline",
        "What happened to a user, newest first",
        [PATH_ID, *map(_query_parameter, UserTimeline.parameters.known)],
        {"200": _answer("A page of entries.", "TimelinePage", _TIMELINE_EXAMPLE, shown)},
        (problems.NOT_FOUND, INVALID_CURSOR),
    )


def _get_signups() -> Json:
    return _get(
        "getSignups",
        "Users that exist, by UTC day of registration",
        [*map(_query_parameter, Signups.parameters.known)],
        {"200": _answer("One entry a day, oldest first.", "Signups", _SIGNUPS_EXAMPLE, _ALWAYS)},
        tag="statistics",
    )


def _probe(operation: str, summary: str, schema: str, example: Json) -> Json:
    headers = ("Cache-Control", "X-Request-Id")
    responses = {"200": _answer("Yes.", schema, example, headers)}
    if schema == "Status":
        responses["503"] = _answer("No; the log and the inner port say why.", schema, {"status": "failed"}, headers)
    return {"operationId": operation, "tags": ["operations"], "summary": summary, "responses": responses}


def _query_parameter(parameter: Parameter) -> Json:
    schema, example = parameter.schema, parameter.example
    if parameter.most > 1:
        schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": parameter.most}
        example = [example]
    return {
        "name": parameter.name,
        "in": "query",
        "required": False,
        "description": parameter.description,
        "schema": {**schema, "examples": [example]},
    }


def _request_headers() -> list[Json]:
    return [_REQUEST_HEADERS[name] for name in ("Consistency-Token", "Prefer", "X-Request-Id")]


def _headers(names: Sequence[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _answer(description: str, schema: str, example: Json, headers: Sequence[str]) -> Json:
    return {
        "description": description,
        "headers": _headers(headers),
        "content": {JSON_MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example}},
    }


def _problems(*types: ProblemType) -> Json:
    """One response for each status, with an example of every type that has it."""
    by_status: dict[int, list[ProblemType]] = {}
    for kind in types:
        by_status.setdefault(kind.status, []).append(kind)
    return {str(status): _problem_response(by_status[status]) for status in sorted(by_status)}


def _problem_response(types: Sequence[ProblemType]) -> Json:
    headers = ("Cache-Control", "X-Request-Id", "Retry-After", "As-Of", "Preference-Applied")
    return {
        "description": " ".join(f"{kind.title}." for kind in types),
        "headers": _headers(headers),
        "content": problem_content(types, request_id="018f3c5a-7b1e-7cc2-9a51-0242ac120004"),
    }
