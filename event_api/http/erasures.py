"""`/erasures`: who was erased, and the signed receipt of each; `/receipts/jwks.json`: the keys that verify them."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import BeforeValidator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chassis.http.api import StrictRoute
from chassis.http.problems import Problem
from chassis.identifiers import canonical
from event_api.http import receipts_openapi as openapi
from event_api.http.openapi import USER_ID
from event_api.http.subscribers import OurReceipts
from event_api.problems import ERASURE_NOT_FOUND
from event_api.receipts.receipts import described

Json = dict[str, Any]

LARGEST_LIMIT: Final = 1000

router: Final = APIRouter(route_class=StrictRoute, tags=["receipts"])

UserId = Annotated[UUID, BeforeValidator(canonical), Path(alias="id", examples=[USER_ID])]
Before = Annotated[
    UUID | None, BeforeValidator(canonical), Query(description="Those before this user's: `next` of the page before.")
]
Limit = Annotated[int, Query(ge=1, description="Erasures a page; more than 1000 is served as 1000.")]


@router.head("/erasures", include_in_schema=False)
@router.get("/erasures", summary="Erasures, the newest first", **openapi.ERASURES)
async def list_page(receipts: OurReceipts, before: Before = None, limit: Limit = 100) -> Json:
    """Who was erased, when, by which record, and whether the log has forgotten them; not signed."""
    size = min(limit, LARGEST_LIMIT)
    found = await receipts.erasures.page(before, size)
    return {
        "data": [described(erasure) for erasure in found],
        "next": str(found[-1].user_id) if len(found) == size else None,
    }


@router.head("/erasures/{id}", include_in_schema=False)
@router.get("/erasures/{id}", summary="The receipt of an erasure", **openapi.RECEIPT)
async def show(user_id: UserId, receipts: OurReceipts) -> Json:
    """When a user was erased, which subscribers have read that, whether the log has forgotten the person; signed."""
    receipt = await receipts.receipt(user_id)
    if receipt is None:
        raise Problem(ERASURE_NOT_FOUND, ERASURE_NOT_FOUND.meaning)
    return receipt


async def _key_set(request: Request) -> Response:
    return JSONResponse(request.app.state.settings.receipt_keys.key_set, media_type="application/jwk-set+json")


#: Not one of the router's, which are for those with a token.
KEY_SET_ROUTE: Final = Route("/receipts/jwks.json", _key_set)
