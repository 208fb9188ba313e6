"""POST /users/import: newline-delimited JSON in, newline-delimited results out."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Annotated, Any, Final, Literal, TypeAlias

import structlog
from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from chassis.access.guard import identity_of
from chassis.http.api import StrictRoute, read_body
from chassis.http.negotiation import require_media_type
from chassis.http.problems import (
    BUSY,
    MALFORMED,
    PAYLOAD_TOO_LARGE,
    REQUEST_TIMEOUT,
    Problem,
    listed,
    problem_from_validation,
    repeated_member,
)
from chassis.http.transport.exchange import LONG_ANSWER, LongAnswer
from chassis.strict_json import RepeatedMemberError
from command_api.http.dependencies import ImportContext, Imports
from command_api.http.errors import problem_of
from command_api.http.openapi import EXAMPLE_ID, headers, keyless_request, keyless_responses
from command_api.imports.handlers import ImportHandlers, ImportSummary, LineResult
from command_api.imports.lines import (
    IMPORT_BYTES,
    LINES,
    ImportLine,
    LineError,
    UnreadableLineError,
    WrongValuesError,
    count_lines,
)
from command_api.imports.places import BODY_BYTES_PER_SECOND, BODY_SECONDS, Body, ImportsBusyError
from command_api.imports.store import ImportOutcome
from command_api.problems import CONFLICT, EMAIL_TAKEN, OUTCOME_UNKNOWN, USER_ERASED, USERNAME_TAKEN
from command_api.users.context import CommandContext
from command_api.users.refusals import PasswordRefusedError

log = structlog.get_logger("import")

IMPORT_PATH: Final = "/users/import"
NDJSON: Final = "application/x-ndjson"
_GAVE_WAY: Final = (
    f"yours came with less than {BODY_BYTES_PER_SECOND:.0f} bytes a second, and gave way to another import;"
    " send it again, faster or in parts"
)
#: Lines of the answer that are written before other requests get their turn.
WRITTEN_LINES: Final = 100

# Looked up once: to read a member off its enum is a call in Python 3.11, and each line needs two of them.
_CREATED: Final = ImportOutcome.CREATED
_UNCHANGED: Final = ImportOutcome.UNCHANGED
_PROBLEMS: Final = {
    ImportOutcome.EMAIL_TAKEN: Problem(EMAIL_TAKEN, EMAIL_TAKEN.meaning),
    ImportOutcome.USERNAME_TAKEN: Problem(USERNAME_TAKEN, USERNAME_TAKEN.meaning),
    ImportOutcome.ERASED: Problem(
        USER_ERASED, "the person with this id was erased; leave the id out to register them anew"
    ),
    ImportOutcome.CONTENDED: Problem(CONFLICT, CONFLICT.meaning),
}


class NdjsonRoute(StrictRoute):
    """A route that answers with newline-delimited JSON."""

    produces = (NDJSON,)


router: Final = APIRouter(route_class=NdjsonRoute, tags=["users"])

_IN_EXAMPLE: Final = '{"email":"ann@example.com","username":"ann","password":"correct horse battery staple"}\n'
_OUT_EXAMPLE: Final = (
    f'{{"line":1,"status":"created","id":"{EXAMPLE_ID}"}}\n{{"complete":true,"created":1,"unchanged":0,"failed":0}}\n'
)
_SUCCESS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "One result a line that is not empty, and the summary; without the summary it was cut short.",
        "headers": headers(),
        "content": {NDJSON: {"schema": {"type": "string"}, "example": _OUT_EXAMPLE}},
    }
}
DryRun: TypeAlias = Annotated[
    Literal["true", "false"], Query(description="Say what would happen, and change nothing.", examples=["true"])
]


@router.post(
    IMPORT_PATH,
    operation_id="import_users",
    summary="Import users by the thousand",
    response_class=Response,
    responses=keyless_responses(OUTCOME_UNKNOWN, BUSY, success=_SUCCESS),
    openapi_extra=keyless_request(
        required=True,
        description=f"One user a line, at most {LINES} lines and {IMPORT_BYTES} bytes.",
        content={
            NDJSON: {
                # OpenAPI 3.1 has no word for the schema of a line; 3.2 calls it itemSchema.
                "schema": {"contentMediaType": NDJSON},
                "x-item-schema": ImportLine.model_json_schema(),
                "example": _IN_EXAMPLE,
            }
        },
    ),
)
async def import_users(
    request: Request,
    context: ImportContext,
    imports: Imports,
    dry_run: DryRun = "false",
) -> Response:
    """Registers each line's user by itself: a bad line fails alone.

    The whole body is read before the answer begins, so a client may send all before it reads. A line may bring its own
    `id` (UUIDv7): where a user has it already the line changes nothing, so a repeated import is harmless. A dry run
    answers the same, `"dry_run": true` in its summary, but hashes nothing, makes no id and changes nothing.
    """
    require_media_type(request, (NDJSON,))
    results = _results(imports, request, context, dry_run=dry_run == "true")
    # An error before the first batch is committed can still be answered with its own status.
    first = await anext(results)
    return _Streamed(first, results, imports.places.answer_seconds)


class _Streamed(StreamingResponse):
    """An answer whose import ends when nobody listens to it any more, and not when the garbage is collected.

    Who reads too slowly is cut off, as nobody listens: until then the import holds its place.
    """

    def __init__(self, first: bytes, results: AsyncGenerator[bytes], answer_seconds: float) -> None:
        super().__init__(_rest(first, results), media_type=NDJSON)
        self._results = results
        self._answer_seconds = answer_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        seconds_left: float | None = self._answer_seconds
        loop = asyncio.get_running_loop()

        async def send_in_time(message: Message) -> None:
            nonlocal seconds_left
            begun = loop.time()
            try:
                async with asyncio.timeout(seconds_left):
                    await send(message)
            except TimeoutError:
                log.warning("import.cut_off", reason="its client does not read the answer")
                seconds_left = None  # nothing is sent any more
                connection: LongAnswer = scope[LONG_ANSWER]
                connection.cut_off()
            if seconds_left is not None:
                seconds_left -= loop.time() - begun

        async with aclosing(self._results):
            await super().__call__(scope, receive, send_in_time)


async def _results(
    imports: ImportHandlers, request: Request, context: CommandContext, *, dry_run: bool
) -> AsyncGenerator[bytes]:
    # A body that is on its way takes no place among the imports that run: it may stand still, and gives way then.
    caller = identity_of(request.scope)
    with imports.places.for_body(caller) as coming:
        body = await _body(request, coming)
        with imports.places.for_run(caller):
            async with aclosing(imports.run(body, context.cause, dry_run=dry_run)) as parts:
                async for part in parts:
                    for piece in encode(part):
                        yield piece
                        await asyncio.sleep(0)  # a thousand refusals take a tenth of a second to write


async def _body(request: Request, coming: Body) -> bytes:
    async def noting() -> Message:
        message = await request.receive()
        coming.came(len(message.get("body", b"")))
        return message

    def give_way() -> None:
        if not limit.expired():
            limit.reschedule(-math.inf)

    try:
        async with asyncio.timeout(BODY_SECONDS) as limit:
            coming.on_giving_way = give_way
            body = await read_body(Request(request.scope, noting))
    except TimeoutError:
        if coming.has_given_way:
            raise ImportsBusyError(_GAVE_WAY) from None
        raise Problem(REQUEST_TIMEOUT, f"the body did not come within {BODY_SECONDS:g} s; send less at once") from None
    lines = count_lines(body)
    if lines > LINES:
        raise Problem(PAYLOAD_TOO_LARGE, f"the body has {lines} lines, {LINES} at most; send the rest by itself")
    return body


async def _rest(first: bytes, results: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in results:
        yield chunk


def encode(part: list[LineResult] | ImportSummary) -> Iterator[bytes]:
    """The lines of the answer for one batch, WRITTEN_LINES at a time, or the last line."""
    if isinstance(part, ImportSummary):
        counts = part._asdict()
        if not part.dry_run:
            del counts["dry_run"]
        yield _line({"complete": True, **counts})
        return
    for start in range(0, len(part), WRITTEN_LINES):
        yield b"".join(map(_encode_result, part[start : start + WRITTEN_LINES]))


def _encode_result(result: LineResult) -> bytes:
    number, outcome, user_id = result
    if outcome is _CREATED or outcome is _UNCHANGED:
        status = "created" if outcome is _CREATED else "unchanged"
        # The JSON is made by hand, because it is the answer to nearly every line.
        id_ = "" if user_id is None else f',"id":"{user_id}"'
        return f'{{"line":{number},"status":"{status}"{id_}}}\n'.encode()
    problem = _PROBLEMS[outcome] if isinstance(outcome, ImportOutcome) else _problem_of_line(outcome)
    kind = problem.type
    document = {"type": kind.uri, "title": kind.title, "status": kind.status, "detail": problem.detail}
    if problem.errors:
        document["errors"] = listed(problem.errors)
    return _line({"line": number, "status": "failed", "problem": document})


def _problem_of_line(error: LineError) -> Problem:
    match error:
        case UnreadableLineError():
            return Problem(MALFORMED, str(error))
        case RepeatedMemberError():
            return repeated_member(error)
        case PasswordRefusedError():
            return problem_of(error)
        case WrongValuesError():
            return problem_from_validation([{**one, "loc": ("body", *one["loc"])} for one in error.errors], error.count)


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace") + b"\n"
