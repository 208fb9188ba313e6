"""The JSON schemas of the published events, at the addresses that their envelopes name (`ce_dataschema`)."""

from __future__ import annotations

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events.envelope import data_schema
from events.user_events import USER_EVENTS


def schema_route() -> Route:
    """The route of all schemas."""
    documents = {data_schema(type_): json.dumps(schema) for type_, schema in event_schemas().items()}

    async def show(request: Request) -> Response:
        document = documents.get(request.url.path)
        if document is None:
            raise HTTPException(404)
        return Response(document, media_type="application/schema+json")

    return Route("/schemas/{name}", show)


def event_schemas() -> dict[str, dict[str, Any]]:
    """The schema of each type's data."""
    schemas = {type_: each.model_json_schema(mode="serialization") for type_, each in USER_EVENTS.classes.items()}
    schemas[USER_EVENTS.tombstone_type] = {
        "title": USER_EVENTS.tombstone.__name__,
        "description": "A tombstone.",
        "type": "null",
    }
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {type_: {**dialect, "$id": data_schema(type_), **schema} for type_, schema in schemas.items()}
