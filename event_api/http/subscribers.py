"""`/subscribers`: services say that they read the events, and how far they have read."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis.access.guard import access_of
from chassis.clock import rfc3339
from chassis.http.api import StrictRoute
from chassis.http.problems import Problem
from event_api.access import REMOVES_ANY
from event_api.http import receipts_openapi as openapi
from event_api.http.asking import Log, gone
from event_api.http.openapi import POSITION
from event_api.log.continuity import LogGoneError
from event_api.log.log import ErasuresLeftOutError
from event_api.log.positions import InvalidPositionError
from event_api.problems import (
    ERASURES_LEFT_OUT,
    INVALID_POSITION,
    SUBSCRIBER_HAS_GROUP,
    SUBSCRIBER_NOT_FOUND,
    SUBSCRIBER_TAKEN,
    TOO_MANY_SUBSCRIBERS,
)
from event_api.receipts.receipts import Receipts
from event_api.receipts.subscribers import GroupSpeaksError, NameTakenError, Subscriber, TooManySubscribersError

Json = dict[str, Any]

#: Safe in paths, logs and tables.
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
_GROUP_CHARACTERS: Final = 255

router: Final = APIRouter(route_class=StrictRoute, tags=["receipts"])


def _receipts(request: Request) -> Receipts:
    receipts: Receipts = request.app.state.receipts
    return receipts


OurReceipts = Annotated[Receipts, Depends(_receipts)]
Name = Annotated[str, Path(pattern=_NAME, description="The subscriber's name.", examples=["mailer"])]


class Registration(BaseModel):
    """Who reads the events."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=_NAME, description="Of the service, unique among all.", examples=["mailer"])
    group: str | None = Field(
        None,
        min_length=1,
        max_length=_GROUP_CHARACTERS,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="Its consumer group, whose committed offsets then say how far it is.",
        examples=["mailer"],
    )


class Acknowledgement(BaseModel):
    """How far a subscriber is."""

    model_config = ConfigDict(extra="forbid")

    position: str = Field(
        description="Everything up to here is dealt with: an event's `id:`, or `next` of a page.",
        examples=[POSITION],
    )


@router.post("/subscribers", status_code=201, summary="Register a subscriber", **openapi.REGISTER)
async def register(request: Request, response: Response, body: Registration, receipts: OurReceipts) -> Json:
    """Say that a service reads the events: from then on each receipt of an erasure says whether it is past it.

    Again by the same caller it is 200, and the group is what it says now.
    """
    try:
        caller = access_of(request.scope).caller
        actor = caller.actor() if caller else None
        subscriber, is_new = await receipts.subscribers.register(body.name, body.group, _owner(request), actor)
    except NameTakenError as error:
        raise Problem(SUBSCRIBER_TAKEN, SUBSCRIBER_TAKEN.meaning) from error
    except TooManySubscribersError as error:
        raise Problem(TOO_MANY_SUBSCRIBERS, TOO_MANY_SUBSCRIBERS.meaning) from error
    response.status_code = 201 if is_new else 200
    return _shown(subscriber)


@router.head("/subscribers", include_in_schema=False)
@router.get("/subscribers", summary="All subscribers, and how far each is", **openapi.SUBSCRIBERS)
async def list_all(receipts: OurReceipts) -> Json:
    """Every subscriber by name, with the next offset of each partition of the topic."""
    return {
        "data": [{**_shown(each), "offsets": offsets} for each, offsets in await receipts.subscribers_with_offsets()]
    }


@router.put("/subscribers/{name}/position", status_code=204, summary="Acknowledge a position", **openapi.ACKNOWLEDGE)
async def acknowledge(request: Request, name: Name, body: Acknowledgement, receipts: OurReceipts, log: Log) -> None:
    """Say how far a subscriber is: everything before has been dealt with. The last word counts, further or not."""
    try:
        position = await log.read_acknowledged(body.position)
    except InvalidPositionError as error:
        where = [{"detail": str(error), "pointer": "#/position"}]
        raise Problem(INVALID_POSITION, f"the position {error}", errors=where) from error  # type: ignore[arg-type] # one of its members
    except LogGoneError as error:
        raise gone(error) from error
    except ErasuresLeftOutError as error:
        raise Problem(ERASURES_LEFT_OUT, ERASURES_LEFT_OUT.meaning) from error
    try:
        is_noted = await receipts.subscribers.acknowledge(name, position, _owner(request))
    except GroupSpeaksError as error:
        raise Problem(
            SUBSCRIBER_HAS_GROUP, f"what the consumer group {error} has committed says how far {name} is"
        ) from error
    if not is_noted:
        raise Problem(SUBSCRIBER_NOT_FOUND, SUBSCRIBER_NOT_FOUND.meaning)


@router.delete("/subscribers/{name}", status_code=204, summary="Remove a subscriber", **openapi.REMOVE)
async def remove(request: Request, name: Name, receipts: OurReceipts) -> None:
    """Have receipts name it no more. An operator (`operations:write`) removes anybody's, others their own."""
    owner = None if access_of(request.scope).may(REMOVES_ANY) else _owner(request)
    if not await receipts.subscribers.remove(name, owner):
        raise Problem(SUBSCRIBER_NOT_FOUND, SUBSCRIBER_NOT_FOUND.meaning)


def _owner(request: Request) -> str:
    """The caller who registers; where access is switched off, everybody is one."""
    caller = access_of(request.scope).caller
    return caller.identity if caller else ""


def _shown(subscriber: Subscriber) -> Json:
    return {
        "name": subscriber.name,
        "group": subscriber.group,
        "owner": subscriber.actor,
        "registered_at": rfc3339(subscriber.registered_at),
        "acknowledged_at": subscriber.acknowledged_at and rfc3339(subscriber.acknowledged_at),
    }
