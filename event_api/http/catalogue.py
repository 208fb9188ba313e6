"""`/events/catalogue`: every type of event with its schema and examples, and what a subscriber may rely on.

For whoever has no token yet: it says nothing of anybody. The examples are the corpus that comes with the code.
"""

from __future__ import annotations

import json
from base64 import b64decode
from html import escape
from importlib.resources import files
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chassis.http.negotiation import accepts
from chassis.http.pages import text_page
from events.asyncapi import header_schema
from events.catalogue import short_name
from events.schemas import event_schemas
from events.user_events import USER_EVENTS

Json = dict[str, Any]

#: docs/reference/events-contract.md has the whole.
GUARANTEES: Final = (
    "Each event is there exactly once for read_committed readers.",
    "The events of one user come in the order of their versions, without gaps until compaction or erasure.",
    "An event carries the whole user after the change, so the newest one is all that a copy needs.",
    "Every record that was ever published stays readable; a published field keeps its name, its type and its place.",
    "Fields, headers, types and statuses may be added: ignore what you do not know.",
    "Snapshots and tombstones may come more than once: ignore a snapshot that is not newer than what you have.",
    "An erasure is a record without a value: delete whatever you have of that user, whichever version that is.",
)
_MEDIA_TYPES: Final = ("application/json", "text/html")


def catalogue_route() -> Route:
    """The route."""
    document = _document()
    body = _page(document)

    async def show(request: Request) -> Response:
        wants_page = accepts(request, *_MEDIA_TYPES) == "text/html"
        answer = text_page("Events of users", body) if wants_page else JSONResponse(document)
        answer.headers["Vary"] = "Accept"
        return answer

    return Route("/events/catalogue", show)


def _document() -> Json:
    examples = _examples()
    summaries = {**USER_EVENTS.classes, USER_EVENTS.tombstone_type: USER_EVENTS.tombstone}
    return {
        "source": USER_EVENTS.source,
        "guarantees": list(GUARANTEES),
        "types": [
            {
                "type": type_,
                "summary": (summaries[type_].__doc__ or "").strip().partition("\n")[0],
                "headers": header_schema(USER_EVENTS, type_),
                "schema": schema,
                "examples": examples[type_],
            }
            for type_, schema in event_schemas(USER_EVENTS).items()
        ],
    }


def _examples() -> dict[str, list[Json]]:
    """The records of the corpus by type, as texts."""
    found: dict[str, list[Json]] = {}
    kept = (file for file in (files("events") / "corpus").iterdir() if file.name.endswith(".json"))
    for file in sorted(kept, key=lambda each: each.name):
        record = json.loads(file.read_text(encoding="utf-8"))
        headers = {name: _text(value) for name, value in record["headers"]}
        value = record["value"] and json.loads(b64decode(record["value"]))
        example = {"key": _text(record["key"]), "headers": headers, "value": value}
        found.setdefault(str(headers["ce_type"]), []).append(example)
    return found


def _text(encoded: str | None) -> str | None:
    return None if encoded is None else b64decode(encoded).decode()


def _page(document: Json) -> str:
    rows = "\n".join(f"<li>{escape(each)}</li>" for each in document["guarantees"])
    links = ", ".join(f'<a href="#{short_name(each["type"])}">{each["type"]}</a>' for each in document["types"])
    types = "\n".join(map(_section, document["types"]))
    return (
        f"<p>What <code>{document['source']}</code> publishes. Programs get it as JSON with"
        " <code>Accept: application/json</code>.</p>\n"
        f"<h2>What you may rely on</h2>\n<ul>\n{rows}\n</ul>\n<h2>Types</h2>\n<p>{links}</p>\n{types}"
    )


def _section(kind: Json) -> str:
    examples = "\n".join(f"<pre>{_json(each)}</pre>" for each in kind["examples"])
    return (
        f'<h3 id="{short_name(kind["type"])}"><code>{kind["type"]}</code></h3>\n<p>{escape(kind["summary"])}</p>\n'
        f"{examples}\n<details><summary>JSON Schema of the value</summary><pre>{_json(kind['schema'])}</pre></details>"
    )


def _json(document: Json) -> str:
    return escape(json.dumps(document, ensure_ascii=False, indent=2), quote=False)
