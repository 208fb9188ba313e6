"""Errors as RFC 9457 problem details, for every status that the framework or a service of ours can answer.

A service declares its problem types next to these; each has a readable page under `/problems/`
(chassis/http/pages/problems.py) that says what happened and what to do. Raising `Problem` anywhere below the middleware
becomes that answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from chassis.strict_json import RepeatedMemberError
from chassis.telemetry import request_id

PROBLEM_MEDIA_TYPE = "application/problem+json"


class FieldError(TypedDict, total=False):
    """One thing that is wrong with a request, and where: in the body (JSON pointer), a parameter or a header."""

    detail: str
    pointer: str
    parameter: str
    header: str


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of error: its slug under `/problems/`, status and title, and for its page what happened and what to do."""

    slug: str
    status: int
    title: str
    meaning: str
    remedy: str

    @property
    def uri(self) -> str:
        """The `type` member: a path that the API serves."""
        return f"/problems/{self.slug}"


def problem_content(kinds: Sequence[ProblemType], *, request_id: str) -> dict[str, Any]:
    """The content of an OpenAPI response: the schema `Problem`, and an example of each kind."""
    examples = {kind.slug: problem_example(kind, request_id=request_id) for kind in kinds}
    return {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}}


def problem_example(kind: ProblemType, *, request_id: str) -> dict[str, Any]:
    """A problem of this kind as an OpenAPI example."""
    document = {
        "type": kind.uri,
        "title": kind.title,
        "status": kind.status,
        "detail": kind.meaning,
        "instance": "/users",
        "request_id": request_id,
    }
    return {"summary": kind.title, "value": document}


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - RFC 9457 calls it a problem, and so does everybody who reads one
    """An answer that is a problem: raise it where the error is known."""

    type: ProblemType
    detail: str
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """The type's slug and the detail, for logs."""
        return f"{self.type.slug}: {self.detail}"


MALFORMED = ProblemType(
    "malformed-request",
    400,
    "The request cannot be read",
    "The body is not JSON, or a parameter or header that must be machine-readable is not.",
    "Send what the OpenAPI document describes; a JSON body must be valid UTF-8 JSON.",
)
NOT_FOUND = ProblemType(
    "not-found",
    404,
    "There is nothing here",
    "No route or no resource has this address.",
    "Check the path against /docs.",
)
METHOD_NOT_ALLOWED = ProblemType(
    "method-not-allowed",
    405,
    "This address does not take that method",
    "The resource exists, but not for this HTTP method.",
    "Use one of the methods in the Allow header.",
)
NOT_ACCEPTABLE = ProblemType(
    "not-acceptable",
    406,
    "None of the accepted media types can be served",
    "The Accept header excludes application/json, which is what this resource is.",
    "Accept application/json, or leave the header out.",
)
REQUEST_TIMEOUT = ProblemType(
    "request-timeout",
    408,
    "The request did not come in time",
    "Its head or its body came more slowly than this service waits for; nothing was done.",
    "Send the whole request again, without pauses; detail names the limit.",
)
PAYLOAD_TOO_LARGE = ProblemType(
    "payload-too-large",
    413,
    "The body is too large",
    "The request body is larger than this route takes.",
    "Send less at once; detail names the limit in bytes.",
)
TARGET_TOO_LONG = ProblemType(
    "target-too-long",
    414,
    "The address is too long",
    "Path and query together have more bytes than this service reads.",
    "Send a shorter query; detail names the limit in bytes.",
)
UNSUPPORTED_MEDIA_TYPE = ProblemType(
    "unsupported-media-type",
    415,
    "The body has another media type or coding than this route takes",
    "The Content-Type header is missing or names a type that this route does not read, or Content-Encoding says that"
    " the body is compressed.",
    "Send the media type that detail names in Content-Type, uncompressed.",
)
VALIDATION = ProblemType(
    "validation-error",
    422,
    "Some fields or parameters are wrong",
    "The request can be read, but not every value in it is allowed; errors names each and its limit.",
    "Correct what errors lists and send the request again; nothing was changed.",
)
HEAD_TOO_LARGE = ProblemType(
    "head-too-large",
    431,
    "The request's head is too large",
    "Its header fields are more, or have more bytes, than this service reads.",
    "Send fewer or shorter headers; detail names the limits.",
)
INTERNAL = ProblemType(
    "internal-error",
    500,
    "Something went wrong on our side",
    "The service met an error that it does not know how to explain to you.",
    "Try again; if it stays, report request_id to the operator, who finds the cause in the logs with it.",
)
NOT_IMPLEMENTED = ProblemType(
    "not-implemented",
    501,
    "The request needs something that is not there",
    "It uses a part of HTTP that this service does not have, such as a compressing transfer coding.",
    "Send it without; detail names the part.",
)
UNAVAILABLE = ProblemType(
    "unavailable",
    503,
    "The service cannot do this right now",
    "A server it depends on is down, starting, or has no connection free.",
    "Send the same request again after the seconds in Retry-After.",
)
BUSY = ProblemType(
    "busy",
    503,
    "Too much work is waiting",
    "More requests come, or wait for something, than this process can serve in time. Nothing was done for this one.",
    "Send the same request again after the seconds in Retry-After.",
)
CORS_REFUSED = ProblemType(
    "cors-refused",
    400,
    "This page's origin may not call the API",
    "A browser asked on behalf of a page whose origin, method or headers are not allowed here.",
    "Ask the operator to name the page's origin in CORS_ALLOW_ORIGINS.",
)
OTHER = ProblemType(
    "http-error",
    400,
    "The request was refused",
    "The web framework refused the request before it reached a route; status says how.",
    "See detail, and the OpenAPI document for what the route takes.",
)

COMMON: tuple[ProblemType, ...] = (
    MALFORMED,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    NOT_ACCEPTABLE,
    REQUEST_TIMEOUT,
    PAYLOAD_TOO_LARGE,
    TARGET_TOO_LONG,
    UNSUPPORTED_MEDIA_TYPE,
    VALIDATION,
    HEAD_TOO_LARGE,
    INTERNAL,
    NOT_IMPLEMENTED,
    UNAVAILABLE,
    BUSY,
    CORS_REFUSED,
    OTHER,
)
#: Errors that one problem lists: enough to mend a request by, and a body of mistakes is not answered by a larger one.
LISTED_ERRORS = 20
_NAME_CHARACTERS = 200
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_BY_STATUS = {kind.status: kind for kind in reversed(COMMON)}


def unavailable(detail: str, *, retry_after: int = 1) -> Problem:
    """A 503 that says when to come back, in seconds."""
    return Problem(UNAVAILABLE, detail, headers={"Retry-After": str(retry_after)})


def invalid_parameter(name: str, detail: str) -> Problem:
    """A 422 about one query or path parameter."""
    return Problem(VALIDATION, f"{name}: {detail}", errors=[{"detail": detail, "parameter": name}])


def problem_response(problem: Problem, *, instance: str, status: int | None = None) -> Response:
    """Render a problem; `instance` is the path that was asked for."""
    status = status or problem.type.status
    document: dict[str, Any] = {
        "type": problem.type.uri,
        "title": problem.type.title,
        "status": status,
        "detail": problem.detail,
        "instance": _quoted(instance),
        "request_id": request_id.get(),
    }
    if problem.errors:
        document["errors"] = listed(problem.errors)
    return Response(
        _json_of(document).encode("utf-8", "backslashreplace"),
        status_code=status,
        media_type=PROBLEM_MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **problem.headers},
    )


def _json_of(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _quoted(path: str) -> str:
    return quote(path, safe="/:@!$&'()*+,;=~")


class PreparedProblem:
    """A problem's answer, made beforehand but for instance and request id; it lists no errors."""

    def __init__(self, problem: Problem) -> None:
        """Make what is the same each time."""
        answer = problem_response(problem, instance="")
        self.status = answer.status_code
        #: But for Content-Length.
        self.headers = [each for each in answer.raw_headers if each[0] != b"content-length"]
        document = json.loads(bytes(answer.body))
        del document["instance"], document["request_id"]
        self._beginning = _json_of(document).removesuffix("}")

    def body(self, *, instance: str, request_id: str) -> bytes:
        """The document; `request_id` is one that we have made or looked at."""
        # Neither needs an escape.
        return f'{self._beginning},"instance":"{_quoted(instance)}","request_id":"{request_id}"}}'.encode()


def listed(errors: Sequence[FieldError]) -> list[FieldError]:
    """The first LISTED_ERRORS of them; the problem's detail says how many there are."""
    return list(errors[:LISTED_ERRORS])


def answer_problem(request: Request, error: Exception) -> Response:
    """Exception handler for `Problem`."""
    assert isinstance(error, Problem)
    return problem_response(error, instance=request.url.path)


def answer_http_exception(request: Request, error: Exception) -> Response:
    """Exception handler for what Starlette and FastAPI raise themselves: 404, 405, 400 and the like."""
    assert isinstance(error, HTTPException)
    kind = _BY_STATUS.get(error.status_code, OTHER)
    detail = error.detail if kind in (OTHER, MALFORMED) else kind.meaning
    headers = {"Allow": ", ".join(_allowed(request))} if error.status_code == 405 else error.headers or {}
    problem = Problem(kind, detail, headers=headers)
    return problem_response(problem, instance=request.url.path, status=error.status_code)


def _allowed(request: Request) -> list[str]:
    """The methods of every route at this address: the framework names those of the first one only."""
    routes = request.app.router.routes
    return [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]


def answer_invalid_request(request: Request, error: Exception) -> Response:
    """Exception handler for FastAPI's request validation: unreadable JSON is 400, wrong values are 422."""
    from fastapi.exceptions import RequestValidationError  # noqa: PLC0415 - 6 MB, and only some processes have it

    assert isinstance(error, RequestValidationError)
    problem = problem_from_validation(error.errors())
    return problem_response(problem, instance=request.url.path)


def problem_from_validation(errors: Sequence[Any], count: int | None = None) -> Problem:
    """The problem that pydantic's errors are; their locations begin with `body`, `query`, `path` or `header`.

    `count` is how many there are, where only the first ones are given.
    """
    return invalid([_field_error(entry) for entry in errors[:LISTED_ERRORS]], count or len(errors))


def invalid(errors: Sequence[FieldError], count: int | None = None) -> Problem:
    """A 422 that lists these mistakes; `count` is how many there are, where only the first ones are given."""
    first, count = errors[0], count or len(errors)
    where = first.get("pointer") or first.get("parameter") or first.get("header") or "body"
    more = f" (and {count - 1} more)" if count > 1 else ""
    return Problem(VALIDATION, f"{where}: {first['detail']}{more}", errors=errors)


def repeated_member(error: RepeatedMemberError) -> Problem:
    """The 422 about a member of a JSON object that comes twice."""
    pointer = json_pointer(error.path)
    return Problem(VALIDATION, f"{pointer}: {error}", errors=[{"detail": str(error), "pointer": pointer}])


def _field_error(entry: Any) -> FieldError:
    place, *path = entry["loc"]
    detail = _sentence(entry)
    match place:
        case "query" | "path":
            return {"detail": detail, "parameter": ".".join(map(str, path))}
        case "header":
            return {"detail": detail, "header": ".".join(map(str, path))}
        case _:
            return {"detail": detail, "pointer": json_pointer(path)}


def malformed_header(name: str, detail: str) -> Problem:
    """A 400 about one header."""
    return Problem(MALFORMED, f"{name}: {detail}", errors=[{"detail": detail, "header": name}])


def json_pointer(path: Sequence[str | int]) -> str:
    """The path as a JSON pointer in fragment form (RFC 6901, as RFC 9457 section 3 shows it): `#/attributes/plan`.

    A name that is longer than any of ours is cut.
    """
    parts = (f"{name[:_NAME_CHARACTERS]}…" if len(name) > _NAME_CHARACTERS else name for name in map(str, path))
    escaped = (part.replace("~", "~0").replace("/", "~1") for part in parts)
    return "#" + "".join(f"/{part}" for part in escaped)


def _sentence(entry: Any) -> str:
    """Pydantic's message; our own words where it says nothing of what to do, or speaks of Python."""
    match entry["type"]:
        case "missing":
            return "is required; add it"
        case "model_attributes_type" | "model_type" | "dict_type":
            return "must be a JSON object"
        case "extra_forbidden":
            return "is not a known field; remove it"
        case _:
            message = str(entry["msg"]).removeprefix("Value error, ")
            return message[:1].lower() + message[1:]
