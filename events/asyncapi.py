"""The topic of user events as an AsyncAPI 3.0 document, made from the catalogue: for subscribers' generators and tools.

It tells what the code publishes, message by message: key, headers, value, tombstone. Where the brokers are is for
whoever runs them to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from pydantic.json_schema import models_json_schema

from events.catalogue import ERASED_TYPE, ChangeEvent, short_name
from events.envelope import DATA_CONTENT_TYPE, SOURCE, SPEC_VERSION, data_schema
from events.user_events import UserErased, UserEvent

VERSION: Final = "3.0.0"
#: Of the Kafka bindings of channels and messages.
BINDING_VERSION: Final = "0.5.0"
CHANNEL: Final = "userEvents"
OPERATION: Final = "publishUserEvents"

_UUID: Final = {"type": "string", "format": "uuid"}
_DESCRIPTION: Final = (
    "Every change of a user, with the whole public user after it. The topic is compacted: all events of the last days,"
    " the last one of each user for ever, and a tombstone for whoever was erased. For read_committed consumers each"
    " event is there exactly once, and the events of one user are in the order of their versions, without gaps until"
    " compaction or erasure."
)


def document(*, version: str, topic: str, partitions: int, replicas: int, configs: Mapping[str, str]) -> dict[str, Any]:
    """The whole document for one installation: its topic's name, division and configuration, and Muster's version."""
    messages, schemas = _messages()
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Muster user events",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": DATA_CONTENT_TYPE,
        "channels": {
            CHANNEL: {
                "address": topic,
                "description": _DESCRIPTION,
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"kafka": _topic_binding(topic, partitions, replicas, configs)},
            }
        },
        "operations": {
            OPERATION: {
                "action": "send",
                "channel": {"$ref": f"#/channels/{CHANNEL}"},
                "summary": "Muster's relay publishes each event once, in one Kafka transaction with others.",
                "messages": [{"$ref": f"#/channels/{CHANNEL}/messages/{name}"} for name in messages],
            }
        },
        "components": {"messages": messages, "schemas": schemas},
    }


def _topic_binding(topic: str, partitions: int, replicas: int, configs: Mapping[str, str]) -> dict[str, Any]:
    configuration: dict[str, Any] = {"cleanup.policy": configs["cleanup.policy"].split(",")}
    for name in ("delete.retention.ms", "max.message.bytes"):
        configuration[name] = int(configs[name])
    return {
        "topic": topic,
        "partitions": partitions,
        "replicas": replicas,
        "topicConfiguration": configuration,
        "bindingVersion": BINDING_VERSION,
    }


def _messages() -> tuple[dict[str, Any], dict[str, Any]]:
    """A message for each type, by its short name, and the schemas that their values refer to."""
    kinds: tuple[type[UserEvent], ...] = get_args(ChangeEvent)
    names, definitions = models_json_schema(
        [(kind, "serialization") for kind in kinds], ref_template="#/components/schemas/{model}"
    )
    messages = {}
    for kind in kinds:
        type_ = f"{kind.name}.v{kind.version}"
        messages[short_name(type_)] = _message(type_, kind, names[kind, "serialization"])
    messages[short_name(ERASED_TYPE)] = _message(ERASED_TYPE, UserErased, {"type": "null"})
    return messages, definitions["$defs"]


def _message(type_: str, kind: type[UserEvent | UserErased], payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": type_,
        "title": kind.__name__,
        "summary": (kind.__doc__ or "").strip().partition("\n")[0],
        "contentType": DATA_CONTENT_TYPE,
        "headers": _headers(type_),
        "payload": payload,
        "correlationId": {
            "description": "The request that led to the event.",
            "location": "$message.header#/ce_correlationid",
        },
        "bindings": {
            "kafka": {"key": {**_UUID, "description": "The user's id."}, "bindingVersion": BINDING_VERSION},
        },
    }


def _headers(type_: str) -> dict[str, Any]:
    """CloudEvents 1.0 in the binary mode of its Kafka binding: every header is UTF-8 text."""
    text = {"type": "string"}
    headers: dict[str, dict[str, Any]] = {
        "ce_specversion": {**text, "const": SPEC_VERSION},
        "ce_id": {**_UUID, "description": "The event's id, the same in any republication."},
        "ce_source": {**text, "const": SOURCE},
        "ce_type": {**text, "const": type_},
        "ce_subject": {**_UUID, "description": "The user's id; equal to the key."},
        "ce_time": {**text, "format": "date-time", "description": "RFC 3339, UTC, microseconds."},
        "ce_sequence": {**text, "pattern": "^[0-9]{20}$", "description": "The user's version after the event."},
        "ce_correlationid": {**text, "description": "The request's id."},
        "ce_causationid": {**text, "description": "The command's id."},
        "ce_dataschema": {**text, "const": data_schema(type_), "description": "A path on the command API."},
        "content-type": {**text, "const": DATA_CONTENT_TYPE},
    }
    optional = {"traceparent": {**text, "description": "W3C Trace Context, where the request brought one."}}
    return {"type": "object", "required": list(headers), "properties": headers | optional}
