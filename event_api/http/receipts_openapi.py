"""The OpenAPI document on subscribers, erasures and receipts, and on what anybody may read."""

from __future__ import annotations

from typing import Any, Final

from chassis.http.problems import MALFORMED, PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, ProblemType
from event_api.http.openapi import USER_ID, Json, Responses, nullable, responses, shows
from event_api.problems import (
    ERASURE_NOT_FOUND,
    ERASURES_LEFT_OUT,
    INVALID_POSITION,
    POSITION_GONE,
    SUBSCRIBER_HAS_GROUP,
    SUBSCRIBER_NOT_FOUND,
    SUBSCRIBER_TAKEN,
    TOO_MANY_SUBSCRIBERS,
)

_WITH_BODY: Final = (MALFORMED, PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE)
_JWS: Final = "eyJhbGciOiJFZERTQSIsImtpZCI6Ii4uLiJ9.eyJlcmFzZWRfYXQiOiIuLi4ifQ.c2lnbmF0dXJl"
_WHEN: Final = "2026-11-22T14:15:16.123456Z"
_ERASURE: Final[Json] = {
    "user_id": USER_ID,
    "erased_at": _WHEN,
    "partition": 3,
    "offset": 812,
    "log": {"forgotten": None, "expected_by": "2026-12-02T14:15:16.140000Z"},
}
_SUBSCRIBER: Final[Json] = {
    "name": "mailer",
    "group": None,
    "owner": "mailer",
    "registered_at": _WHEN,
    "acknowledged_at": _WHEN,
}
_RECEIPT: Final[Json] = {**_ERASURE, "subscribers": [{"name": "mailer", "past": True}], "jws": _JWS}

_TIME: Final[Json] = {"type": "string", "format": "date-time"}
_NUMBER: Final[Json] = {"type": "integer", "minimum": 0}
_BEFORE: Final = "; null where an earlier version kept none"
_OF_ERASURE: Final[Json] = {
    "user_id": {"type": "string", "format": "uuid"},
    "erased_at": nullable(**_TIME, description=f"When it was committed{_BEFORE}."),
    "partition": nullable(**_NUMBER, description=f"Of the topic{_BEFORE}."),
    "offset": nullable(**_NUMBER, description=f"The tombstone's{_BEFORE}."),
    "log": {
        "type": "object",
        "required": ["forgotten", "expected_by"],
        "properties": {
            "forgotten": nullable(
                type="boolean",
                description="Whether a look at the log found nothing of the person; null before the first look.",
            ),
            "expected_by": nullable(**_TIME, description=f"After this there is a look at the log{_BEFORE}."),
        },
    },
}
_OF_SUBSCRIBER: Final[Json] = {
    "name": {"type": "string"},
    "group": nullable(type="string", description="The consumer group that is followed."),
    "owner": nullable(type="string", description="The actor who registered it; null where access was switched off."),
    "registered_at": _TIME,
    "acknowledged_at": nullable(**_TIME, description="When it acknowledged a position last."),
}
_PAST: Final[Json] = {
    "type": "object",
    "required": ["name", "past"],
    "properties": {
        "name": {"type": "string"},
        "past": nullable(
            type="boolean",
            description="Whether it has read the tombstone; null where that cannot be told: its position is on another"
            " log, its group cannot be asked, or the erasure has none.",
        ),
    },
}


def _object(properties: Json, example: Json, description: str = "") -> Json:
    described = {"description": description} if description else {}
    return {"type": "object", **described, "required": [*properties], "properties": properties, "example": example}


def _list(of: str, more: Json, example: Json) -> Json:
    items = {"type": "array", "items": {"$ref": f"#/components/schemas/{of}"}}
    return _object({"data": items, **more}, example)


_OFFSETS: Final[Json] = {
    "type": ["array", "null"],
    "items": nullable(**_NUMBER),
    "description": "The next offset of each partition: its group's, or as acknowledged on this log; null if unknown.",
}
SCHEMAS: Final[Json] = {
    "Subscriber": _object(_OF_SUBSCRIBER, _SUBSCRIBER),
    "FollowedSubscriber": _object({**_OF_SUBSCRIBER, "offsets": _OFFSETS}, {**_SUBSCRIBER, "offsets": [17, 4, 813]}),
    "Subscribers": _list("FollowedSubscriber", {}, {"data": [{**_SUBSCRIBER, "offsets": [17, 4, 813]}]}),
    "Erasure": _object(_OF_ERASURE, _ERASURE),
    "Erasures": _list(
        "Erasure",
        {"next": nullable(type="string", format="uuid", description="`before` of the next page; null at the end.")},
        {"data": [_ERASURE], "next": None},
    ),
    "Receipt": _object(
        {
            **_OF_ERASURE,
            "subscribers": {"type": "array", "items": _PAST},
            "jws": {
                "type": "string",
                "description": "A compact JWS (RFC 7515, EdDSA): its payload is the canonical JSON (RFC 8785) of all"
                " else here, its header's `iat` when it was made. /receipts/jwks.json has the keys.",
            },
        },
        _RECEIPT,
    ),
}


def _described(successes: Responses, *problems: ProblemType) -> dict[str, Any]:
    """The arguments of a route's decorator."""
    return {"response_model": None, "responses": responses(successes, *problems)}


_REGISTERED: Final = shows(201, "It is registered.", "Subscriber") | shows(200, "It was already.", "Subscriber")
REGISTER: Final = _described(_REGISTERED, SUBSCRIBER_TAKEN, TOO_MANY_SUBSCRIBERS, *_WITH_BODY)
SUBSCRIBERS: Final = _described(shows(200, "All of them.", "Subscribers"))
ACKNOWLEDGE: Final = _described(
    shows(204, "It is noted."),
    INVALID_POSITION,
    POSITION_GONE,
    ERASURES_LEFT_OUT,
    SUBSCRIBER_NOT_FOUND,
    SUBSCRIBER_HAS_GROUP,
    *_WITH_BODY,
)
REMOVE: Final = _described(shows(204, "It is gone."), SUBSCRIBER_NOT_FOUND)
ERASURES: Final = _described(shows(200, "A page of them.", "Erasures"))
RECEIPT: Final = _described(shows(200, "The receipt.", "Receipt"), ERASURE_NOT_FOUND)


def _public(summary: str, media_types: tuple[str, ...]) -> Json:
    answer = {"description": summary, "content": {name: {} for name in media_types}}
    return {"get": {"summary": summary, "tags": ["public"], "security": [], "responses": {"200": answer}}}


#: The paths that anybody may read, which are served beside the framework.
PATHS: Final[Json] = {
    "/events/catalogue": _public("The types of events, for people and programs", ("application/json", "text/html")),
    "/receipts/jwks.json": _public("The keys of receipts (RFC 7517)", ("application/jwk-set+json",)),
}
