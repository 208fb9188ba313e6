"""`GET /events`: the topic as a stream, or a page of it."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response

from chassis.http.api import StrictRoute
from chassis.http.negotiation import accepts
from chassis.http.overload.admission import leave_place
from chassis.http.preferences import parse_preferences
from chassis.http.problems import MALFORMED, invalid_parameter
from event_api.http import openapi
from event_api.http.asking import After, Beginnings, From, Full, Limit, Log, Types, User, begin, require_whole
from event_api.http.page import DEFAULT_LIMIT, LARGEST_LIMIT, LONGEST_WAIT, read_page
from event_api.http.stream import MEDIA_TYPE, EventStream
from event_api.problems import INVALID_POSITION, POSITION_GONE
from event_api.settings import EventApiSettings

_JSON: Final = "application/json"


class EventsRoute(StrictRoute):
    """A route that gives a stream, or a page to who asks for JSON."""

    produces = (MEDIA_TYPE, _JSON)


router: Final = APIRouter(route_class=EventsRoute, tags=["events"])


def _settings(request: Request) -> EventApiSettings:
    settings: EventApiSettings = request.app.state.settings
    return settings


OurSettings = Annotated[EventApiSettings, Depends(_settings)]


@router.head("/events", include_in_schema=False)
@router.get(
    "/events",
    summary="Events as they come, or by the page",
    response_class=Response,
    responses=openapi.responses(openapi.STREAM, INVALID_POSITION, MALFORMED, POSITION_GONE),
    openapi_extra={"parameters": openapi.PARAMETERS},
)
async def events(  # noqa: PLR0913, PLR0917 - one argument a parameter
    request: Request,
    log: Log,
    settings: OurSettings,
    types: Types = [],  # noqa: B006 - FastAPI copies it
    user: User = None,
    beginning: From = None,
    after: After = None,
    full: Full = "false",
    limit: Limit = None,
) -> Response:
    """Every change of a user, in the order of each user's versions, once.

    The stream ends with its token, and never by itself. Each event's `id:` is a position: send the last one back as
    `Last-Event-ID`, and the stream goes on behind it, whatever happened meanwhile. `event: caught-up` says that
    everything that was there when you came has been sent; it does not come where you began `now`. Every 15 seconds a
    comment and an `id:` come.
    """
    is_page = accepts(request, MEDIA_TYPE, _JSON) == _JSON
    where, is_full = Beginnings.of(request, after, beginning), full == "true"
    if limit is not None and not is_page:
        raise invalid_parameter("limit", "is for pages: send Accept: application/json, or leave it out")
    require_whole(request, full=is_full)
    reading = await begin(log, where, types, user)
    # Streams last for hours, and pages may wait; connections bound them.
    leave_place(request.scope)
    if not is_page:
        return EventStream(
            reading,
            full=is_full,
            tells_caught_up=where.position is not None or beginning not in {None, "now"},
            cut_off_bytes=settings.slow_client_bytes,
        )
    wait = parse_preferences(",".join(request.headers.getlist("prefer")), longest=LONGEST_WAIT).wait
    page = await read_page(
        reading, request, full=is_full, limit=min(limit or DEFAULT_LIMIT, LARGEST_LIMIT), wait=wait or 0
    )
    return page.response(wait=wait)
