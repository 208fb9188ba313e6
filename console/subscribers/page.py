"""`/subscribers`: which services lag, and who has not read of an erasure; receipts; removing a subscriber.

All is asked of the event API with the operator's own token, and where the topic ends of Kafka, as `muster lag` does.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from chassis.identifiers import read_id
from chassis.kafka.client import KAFKA_ERRORS
from chassis.kafka.refusals import REFUSALS, explain
from console.apis import Apis
from console.forms import Form, change, lead_to, told_to
from console.opened import apis_of, journal_of, settings_of
from console.pages import HEADERS, PageError, page, session_of
from console.settings import ConsoleSettings
from console.sign_in.sessions import Session
from console.subscribers.standing import Json, may_be_pending, near_the_end, pending_with, standings
from projectors.operations.topic_ends import last_records, look_at_topic

#: A page waits for Kafka so long, and says then that it does not answer.
ENDS_SECONDS: Final = 4.0
#: Erasures that are looked at, the newest: one page of the event API.
MOST_ERASURES: Final = 1000
#: The receipts of so many that may be pending are asked for: each asks Kafka about every group.
MOST_RECEIPTS: Final = 20
_AT_ONCE: Final = 5
#: The event API has such names; anything else would be another path there.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Pending(NamedTuple):
    """An erasure that somebody has not read."""

    erasure: Json
    unread: Sequence[str]
    #: Those of whom it cannot be told.
    unknown: Sequence[str]


async def _show(request: Request) -> Response:
    session, apis = session_of(request), apis_of(request)
    subscribers = (await apis.event_api(session, "GET", "/subscribers"))["data"]
    erasures = (await apis.event_api(session, "GET", "/erasures", {"limit": str(MOST_ERASURES)}))["data"]
    ends, why = await _ends(settings_of(request), subscribers)
    candidates = [each for each in erasures if may_be_pending(each, subscribers)]
    return page(
        request,
        "subscribers.html",
        subscribers=standings(subscribers, ends, erasures),
        pending=await _pending(apis, session, candidates[:MOST_RECEIPTS]),
        more=max(0, len(candidates) - MOST_RECEIPTS),
        erasures=len(erasures),
        is_all=len(erasures) < MOST_ERASURES,
        why=why,
        removed=told_to(request).get("done") == "removed",
        may_change=session.may("operations:write"),
    )


async def _find(request: Request) -> Response:
    """Lead from the box to the receipt."""
    user = _id(request.query_params.get("id", "").strip())
    return RedirectResponse(f"/subscribers/receipts/{user}", 303, dict(HEADERS))


async def _show_receipt(request: Request) -> Response:
    user = _id(request.path_params["id"])
    receipt = await apis_of(request).event_api(session_of(request), "GET", f"/erasures/{user}")
    unread, unknown = pending_with(receipt)
    return page(request, "receipt.html", receipt=receipt, unread=unread, unknown=unknown)


async def _remove(request: Request, session: Session, _: Form) -> Response:
    """Have receipts name a subscriber no more."""
    name, journal = request.path_params["name"], journal_of(request)
    if not _NAME.fullmatch(name):
        raise PageError(404, "There is no such subscriber", "The list shows those that there are.")
    async with journal.deed(session, "remove a subscriber", name):
        await apis_of(request).event_api(session, "DELETE", f"/subscribers/{name}")
    return lead_to(session, "/subscribers", done="removed")


async def _pending(apis: Apis, session: Session, candidates: Sequence[Json]) -> list[Pending]:
    """Those whose receipts say that somebody has not read them, or that it cannot be told."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def ask(erasure: Json) -> Pending:
        async with turns:
            receipt = await apis.event_api(session, "GET", f"/erasures/{erasure['user_id']}")
        return Pending(erasure, *pending_with(receipt))

    found = await asyncio.gather(*map(ask, candidates))
    return [each for each in found if each.unread or each.unknown]


async def _ends(settings: ConsoleSettings, subscribers: Sequence[Json]) -> tuple[Mapping[int, int] | None, str]:
    """The end of each partition, where somebody is near it behind its last record; or None, and why."""
    topic = settings.events_topic
    try:
        async with asyncio.timeout(ENDS_SECONDS):
            there = await look_at_topic(settings, topic, settings.topic_partitions)
            if there is None:
                return None, "the topic is gone"
            near = near_the_end(subscribers, there.ends)
            return {**there.ends, **(await last_records(settings, topic, near, there.ends) if near else {})}, ""
    except TimeoutError:
        return None, f"no answer within {ENDS_SECONDS:g} s"
    except (*KAFKA_ERRORS, *REFUSALS) as error:
        return None, explain(error)


def _id(text: str) -> UUID:
    """The id of a user.

    Raises:
        PageError: 400, it is none.
    """
    try:
        return read_id(text)
    except ValueError as error:
        raise PageError(
            400, "That is no id", "An erased user's id is a UUID, as commands and events name it."
        ) from error


routes: Final = [
    Route("/subscribers", _show),
    Route("/subscribers/receipt", _find),
    Route("/subscribers/receipts/{id}", _show_receipt),
    Route("/subscribers/{name}/remove", change(_remove), methods=["POST"]),
]
