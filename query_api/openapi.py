"""The OpenAPI document of the query API: its routes are plain ASGI, so it is built here and not by the framework.

Query parameters come from the declarations that read them (parameters.py), problems from their types; the rest is
openapi_schemas.py. A test holds the document and the routes to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chassis import __version__
from chassis.http import problems
from chassis.http.problems import PROBLEM_MEDIA_TYPE, ProblemType
from query_api import openapi_schemas as parts
from query_api.openapi_schemas import Json
from query_api.protocol.parameters import Parameter
from query_api.protocol.problems import (
    BUSY,
    COUNT_TOO_EXPENSIVE,
    INVALID_CURSOR,
    NOT_YET_VISIBLE,
    SKIP_TOO_DEEP,
    TOO_EXPENSIVE,
)
from query_api.users import detail as user_detail
from query_api.users import listing as user_list
from query_api.users import signups
from query_api.users import timeline as user_timeline

_EVERY_ROUTE: Final = (problems.NOT_ACCEPTABLE, problems.VALIDATION, problems.INTERNAL, problems.UNAVAILABLE)
_EVERY_QUERY: Final = (problems.MALFORMED, problems.PAYLOAD_TOO_LARGE, NOT_YET_VISIBLE, BUSY, TOO_EXPENSIVE)
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
        "components": {"schemas": parts.SCHEMAS, "headers": parts.HEADERS},
    }


def _paths() -> Json:
    return {
        user_list.PATH: {"get": _list_users()},
        user_detail.PATH: {"get": _get_user()},
        user_timeline.PATH: {"get": _get_timeline()},
        signups.PATH: {"get": _get_signups()},
        "/health": {"get": _probe("getHealth", "What runs here", "Health", {"status": "ok", "version": __version__})},
        "/livez": {"get": _probe("getLiveness", "Whether the process lives", "Checks", _CHECKS)},
        "/readyz": {"get": _probe("getReadiness", "Whether it can answer queries now", "Checks", _CHECKS)},
        "/metrics": {"get": _metrics()},
    }


def _list_users() -> Json:
    return {
        "operationId": "listUsers",
        "tags": ["users"],
        "summary": "Users, page by page",
        "description": "Filters combine with each other and with every sort. Follow `next_cursor` or the Link header.",
        "parameters": [*map(_query_parameter, user_list.PARAMETERS.known), *_request_headers()],
        "responses": {
            "200": _answer("A page of users.", "UserPage", parts.USERS_EXAMPLE, (*_ALWAYS, "Link", "X-Total-Count")),
            **_problems(*_EVERY_ROUTE, *_EVERY_QUERY, INVALID_CURSOR, SKIP_TOO_DEEP, COUNT_TOO_EXPENSIVE),
        },
    }


def _get_user() -> Json:
    shown = (*_ALWAYS, "ETag", "Consistency-Token")
    return {
        "operationId": "getUser",
        "tags": ["users"],
        "summary": "One user",
        "parameters": [parts.PATH_ID, parts.REQUEST_HEADERS["If-None-Match"], *_request_headers()],
        "responses": {
            "200": _answer("The user.", "User", parts.USER_EXAMPLE, shown),
            "304": {"description": "The client has the current version.", "headers": _headers(shown)},
            **_problems(*_EVERY_ROUTE, *_EVERY_QUERY, problems.NOT_FOUND),
        },
    }


def _get_timeline() -> Json:
    return {
        "operationId": "getUserTimeline",
        "tags": ["users"],
        "summary": "What happened to a user, newest first",
        "parameters": [parts.PATH_ID, *map(_query_parameter, user_timeline.PARAMETERS.known), *_request_headers()],
        "responses": {
            "200": _answer(
                "A page of entries.",
                "TimelinePage",
                parts.TIMELINE_EXAMPLE,
                (*_ALWAYS, "Link", "Consistency-Token"),
            ),
            **_problems(*_EVERY_ROUTE, *_EVERY_QUERY, problems.NOT_FOUND, INVALID_CURSOR),
        },
    }


def _get_signups() -> Json:
    return {
        "operationId": "getSignups",
        "tags": ["statistics"],
        "summary": "Users that exist, by UTC day of registration",
        "parameters": [*map(_query_parameter, signups.PARAMETERS.known), *_request_headers()],
        "responses": {
            "200": _answer("One entry a day, oldest first.", "Signups", parts.SIGNUPS_EXAMPLE, _ALWAYS),
            **_problems(*_EVERY_ROUTE, *_EVERY_QUERY),
        },
    }


_CHECKS: Final[Json] = {"status": "ok", "checks": {"database": "ok", "generations": "ok"}}


def _probe(operation: str, summary: str, schema: str, example: Json) -> Json:
    headers = ("Cache-Control", "X-Request-Id")
    responses = {"200": _answer("Yes.", schema, example, headers)}
    if schema == "Checks":
        failed = {"status": "failed", "checks": {"database": "no connection to muster@127.0.0.1:5432/muster_query"}}
        responses["503"] = _answer("No; `checks` says why.", schema, failed, headers)
    return {"operationId": operation, "tags": ["operations"], "summary": summary, "responses": responses}


def _metrics() -> Json:
    return {
        "operationId": "getMetrics",
        "tags": ["operations"],
        "summary": "Figures for Prometheus",
        "responses": {
            "200": {
                "description": "The Prometheus text format.",
                "headers": _headers(("X-Request-Id",)),
                "content": {"text/plain": {"schema": {"type": "string"}, "example": "muster_http_requests_total 1.0"}},
            }
        },
    }


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
        "schema": schema,
        "example": example,
    }


def _request_headers() -> list[Json]:
    return [parts.REQUEST_HEADERS[name] for name in ("Consistency-Token", "Prefer", "X-Request-Id")]


def _headers(names: Sequence[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _answer(description: str, schema: str, example: Json, headers: Sequence[str]) -> Json:
    return {
        "description": description,
        "headers": _headers(headers),
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example}},
    }


def _problems(*types: ProblemType) -> Json:
    """One response a status, with an example of every type that has it."""
    by_status: dict[int, list[ProblemType]] = {}
    for kind in types:
        by_status.setdefault(kind.status, []).append(kind)
    return {str(status): _problem_response(by_status[status]) for status in sorted(by_status)}


def _problem_response(types: Sequence[ProblemType]) -> Json:
    headers = ("Cache-Control", "X-Request-Id", "Retry-After", "As-Of", "Preference-Applied")
    return {
        "description": " ".join(f"{kind.title}." for kind in types),
        "headers": _headers(headers),
        "content": {
            PROBLEM_MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {kind.slug: {"summary": kind.title, "value": _problem_example(kind)} for kind in types},
            }
        },
    }


def _problem_example(kind: ProblemType) -> Json:
    return {
        "type": kind.uri,
        "title": kind.title,
        "status": kind.status,
        "detail": kind.meaning,
        "instance": "/users",
        "request_id": "018f3c5a-7b1e-7cc2-9a51-0242ac120004",
    }
