"""`/parked`: what could not be applied and why, who waits behind it, its bytes once they are asked for, and what to do.

The bytes are a person's data, so that somebody looked is recorded. A discard is shown before it is done: it is carried
out, looked at, and undone.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.forms import Form, change, lead_to, told_to
from console.opened import journal_of, query_of
from console.pages import PageError, page, session_of
from console.parked.contents import as_text, contents
from console.sign_in.sessions import Session
from projectors.operations import parked
from projectors.operations.parked import (
    NoSuchRecordError,
    OtherShapeError,
    ParkedRecord,
    RecordId,
    SuspiciousError,
    WorkedOff,
)

T = TypeVar("T")

PAGE_RECORDS: Final = 100
_RECORD: Final = "/parked/{projection}/{generation}/{partition}/{offset}"
#: A text between quotation marks may be a person's: a key that is no id was an address.
_QUOTED: Final = re.compile(r"""b?(?:'(?:[^'\\]|\\.)*(?:'|$)|"(?:[^"\\]|\\.)*(?:"|$))""")
_COUNTS: Final = ("applied", "discarded", "remaining")


async def _show(request: Request) -> Response:
    query, after = query_of(request), _after(request)
    found, counted = await parked.summaries(query, after=after, limit=PAGE_RECORDS + 1), await parked.counted(query)
    return page(
        request,
        "parked.html",
        records=found[:PAGE_RECORDS],
        is_first=after is None,
        is_last=len(found) <= PAGE_RECORDS,
        counted=counted,
        totals=await parked.totals(query),
        outcome=_told(request),
        may=session_of(request).may,
        first_line=first_line,
    )


async def _show_one(request: Request) -> Response:
    return await _page_of(request, await _find(request))


async def _reveal(request: Request, session: Session, _: Form) -> Response:
    """Show the bytes this once, once it is recorded who saw them."""
    record = await _find(request)
    async with journal_of(request).deed(session, "reveal a parked record", record.id):
        return await _page_of(
            request,
            record,
            is_clear=True,
            contents=[each for each in (contents("Key", record.key), contents("Value", record.value)) if each],
            headers=[(name, "(none)" if value is None else as_text(value)) for name, value in record.headers],
        )


async def _retry(request: Request, session: Session, _: Form) -> Response:
    record = _id(request)
    async with journal_of(request).deed(session, "retry parked records", record):
        return _back(session, await _refusing(parked.retry_record(query_of(request), record)))


async def _retry_all(request: Request, session: Session, _: Form) -> Response:
    async with journal_of(request).deed(session, "retry parked records", "all"):
        return _back(session, await _refusing(parked.retry_all(query_of(request))))


async def _preview(request: Request, _: Session, _form: Form) -> Response:
    """Show what would follow a discard; nothing is changed, and nothing recorded."""
    record = await _find(request)
    outcome, left = await _refusing(parked.preview_discard(query_of(request), record.id))
    return page(request, "parked_discard.html", record=record, outcome=outcome, left=left, first_line=first_line)


async def _discard(request: Request, session: Session, _: Form) -> Response:
    record = _id(request)
    async with journal_of(request).deed(session, "discard a parked record", record):
        return _back(session, await _refusing(parked.discard_record(query_of(request), record)))


async def _discard_suspicious(request: Request, session: Session, _: Form) -> Response:
    async with journal_of(request).deed(session, "discard suspicious records", "all"):
        removed = await parked.discard_suspicious(query_of(request))
    return _back(session, WorkedOff(0, removed, 0))


async def _page_of(request: Request, record: ParkedRecord, **clear: Any) -> Response:
    given: dict[str, Any] = {"is_clear": False, "contents": [], "headers": [], **clear}
    return page(
        request,
        "parked_record.html",
        record=record,
        waiting=await parked.waiting(query_of(request), record),
        size=len(record.value or b""),
        may=session_of(request).may,
        first_line=first_line,
        **given,
    )


def first_line(error: str | None) -> str:
    """A cause without what it quotes of the record, and without the details that databases add: they quote the row."""
    return "waits behind an earlier one" if error is None else _QUOTED.sub("•••", error.partition("\n")[0])


def _id(request: Request) -> RecordId:
    """The id in the path.

    Raises:
        PageError: 404, it is none.
    """
    given = request.path_params
    text = "/".join(given[part] for part in ("projection", "generation", "partition", "offset"))
    try:
        return RecordId.parse(text)
    except NoSuchRecordError as error:
        raise _gone() from error


def _after(request: Request) -> RecordId | None:
    """The record after which the page begins; None: with the first.

    Raises:
        PageError: 400, it is none.
    """
    text = request.query_params.get("after")
    try:
        return RecordId.parse(text) if text else None
    except NoSuchRecordError as error:
        raise PageError(400, "That list cannot be read", "`after` must be the id of a record: open Parked.") from error


async def _find(request: Request) -> ParkedRecord:
    return await _refusing(parked.find(query_of(request), _id(request)))


async def _refusing(work: Awaitable[T]) -> T:
    """The result of the work.

    Raises:
        PageError: 404, it is not parked; 409, it is not to be done.
    """
    try:
        return await work
    except NoSuchRecordError as error:
        raise _gone() from error
    except (SuspiciousError, OtherShapeError) as error:
        raise PageError(409, "That cannot be done", f"Nothing was changed: {error}.") from error


def _gone() -> PageError:
    return PageError(
        404, "Nothing is parked there", "It was applied, discarded or erased meanwhile, or its generation is retired."
    )


def _told(request: Request) -> dict[str, int] | None:
    """The result of the change that led here."""
    told = told_to(request)
    return {name: int(told[name]) for name in _COUNTS} if told else None


def _back(session: Session, outcome: WorkedOff) -> Response:
    return lead_to(session, "/parked", **{name: getattr(outcome, name) for name in _COUNTS})


routes: Final = [
    Route("/parked", _show),
    Route("/parked/retry", change(_retry_all), methods=["POST"]),
    Route("/parked/discard-suspicious", change(_discard_suspicious), methods=["POST"]),
    Route(_RECORD, _show_one),
    *(
        Route(f"{_RECORD}/{path}", change(deed), methods=["POST"])
        for path, deed in (("reveal", _reveal), ("retry", _retry), ("preview", _preview), ("discard", _discard))
    ),
]
