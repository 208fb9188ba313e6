"""The JSON schemas of the published events, at the addresses that their envelopes name (`ce_dataschema`)."""

from __future__ import annotations

import json

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events.envelope import data_schema
from events.schemas import event_schemas
from events.user_events import USER_EVENTS


def schema_route() -> Route:
    """The route of all schemas."""
    documents = {data_schema(type_): json.dumps(schema) for type_, schema in event_schemas(USER_EVENTS).items()}

    async def show(request: Request) -> Response:
        document = documents.get(request.url.path)
        if document is None:
            raise HTTPException(404)
        return Response(document, media_type="application/schema+json")

    return Route("/schemas/{name}", show)
