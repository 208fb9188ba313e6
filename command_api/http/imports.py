"""POST /users/import: newline-delimited JSON in, newline-delimited results out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from chassis.http.api import StrictRoute, read_body
from chassis.http.negotiation import require_media_type
from chassis.http.problems import (
    INTERNAL,
    MALFORMED,
    NOT_ACCEPTABLE,
    PAYLOAD_TOO_LARGE,
    UNAVAILABLE,
    UNSUPPORTED_MEDIA_TYPE,
    VALIDATION,
    Problem,
)
from command_api.http.dependencies import Context, Imports
from command_api.http.errors import BUSY
from command_api.http.openapi import USER_EXAMPLE, headers, import_parameters, problem_responses
from command_api.imports.handlers import ImportHandlers
from command_api.imports.lines import BYTES, LINES, ImportLine, count_lines
from command_api.users.handlers import CommandContext

PATH: Final = "/users/import"
NDJSON: Final = "application/x-ndjson"
#: The largest body over a line of 1 Mbit/s; one that comes slower would keep others waiting.
BODY_SECONDS: Final = 150.0


class NdjsonRoute(StrictRoute):
    """A route that answers with newline-delimited JSON."""

    produces = NDJSON


router: Final = APIRouter(route_class=NdjsonRoute, tags=["users"])

_IN_EXAMPLE: Final = '{"email":"ann@example.com","username":"ann","password":"correct horse battery staple"}\n'
_OUT_EXAMPLE: Final = (
    f'{{"line":1,"status":"created","id":"{USER_EXAMPLE["id"]}"}}\n'
    '{"complete":true,"created":1,"unchanged":0,"failed":0}\n'
)
_SUCCESS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "One result a line that is not empty, and the summary; without the summary it was cut short.",
        "headers": headers(),
        "content": {NDJSON: {"schema": {"type": "string"}, "example": _OUT_EXAMPLE}},
    }
}
_PROBLEMS: Final = (
    MALFORMED,
    NOT_ACCEPTABLE,
    PAYLOAD_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    VALIDATION,
    INTERNAL,
    UNAVAILABLE,
    BUSY,
)


@router.post(
    PATH,
    operation_id="import_users",
    summary="Import users by the thousand",
    response_class=Response,
    responses=_SUCCESS | problem_responses(_PROBLEMS),
    openapi_extra={
        **import_parameters(),
        "requestBody": {
            "required": True,
            "description": f"One user a line, at most {LINES} lines and {BYTES} bytes.",
            "content": {
                NDJSON: {
                    # OpenAPI 3.1 has no word for the schema of a line; 3.2 calls it itemSchema.
                    "schema": {"contentMediaType": NDJSON},
                    "x-item-schema": ImportLine.model_json_schema(),
                    "example": _IN_EXAMPLE,
                }
            },
        },
    },
)
async def import_users(request: Request, context: Context, imports: Imports) -> Response:
    """Registers each line's user by itself: a bad line fails alone.

    The whole body is read before the answer begins, so a client may send all before it reads. A line may bring its own
    `id` (UUIDv7): where a user has it already the line changes nothing, so a repeated import is harmless.
    """
    require_media_type(request, (NDJSON,))
    results = _results(imports, request, context)
    # What goes wrong before the first batch is there can still be answered with its own status.
    first = await anext(results)
    return StreamingResponse(_rest(first, results), media_type=NDJSON)


async def _results(imports: ImportHandlers, request: Request, context: CommandContext) -> AsyncIterator[bytes]:
    # Whoever is refused has not been read: bodies that wait would be memory without a limit.
    async with imports.slot():
        body = await _body(request)
        async with aclosing(imports.run(body, context.cause)) as results:
            async for chunk in results:
                yield chunk


async def _body(request: Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await read_body(request)
    except TimeoutError:
        raise Problem(MALFORMED, f"the body did not come within {BODY_SECONDS:g} s; send less at once") from None
    lines = count_lines(body)
    if lines > LINES:
        raise Problem(PAYLOAD_TOO_LARGE, f"the body has {lines} lines, {LINES} at most; send the rest by itself")
    return body


async def _rest(first: bytes, results: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in results:
        yield chunk
