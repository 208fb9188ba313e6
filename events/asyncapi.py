"""A topic of events as an AsyncAPI 3.0 document, made from the catalogue: for subscribers' generators and tools.

The document tells what the code publishes, message by message: key, headers, value, tombstone. It does not tell where
the brokers are: that is for whoever runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from .catalogue import Catalogue, short_name
from .envelope import ACTOR_PATTERN, DATA_CONTENT_TYPE, SPEC_VERSION, data_schema
from .schemas import opened

ASYNCAPI_VERSION: Final = "3.0.0"
#: The version of the Kafka bindings of channels and messages.
BINDING_VERSION: Final = "0.5.0"

_UUID: Final = {"type": "string", "format": "uuid"}
_DESCRIPTION: Final = (
    "Every change of a {subject}, with the whole public {subject} after it. The topic is compacted: all events of the"
    " last days, the last one of each {subject} for ever, and a tombstone for whoever was erased. For read_committed"
    " consumers each event is there exactly once, and the events of one {subject} are in the order of their versions,"
    " without gaps until compaction or erasure. Snapshots and tombstones may come again: such a snapshot changes"
    " nothing, and a tombstone acts whatever its version."
)


def describe_topic(  # noqa: PLR0913 - one keyword a fact of the installation
    catalogue: Catalogue[Any, Any],
    *,
    version: str,
    topic: str,
    partitions: int,
    replicas: int,
    configs: Mapping[str, str],
) -> dict[str, Any]:
    """The whole document for one installation: its topic's name, division and configuration, and Muster's version."""
    subject = catalogue.subject
    channel, description = f"{subject}Events", _DESCRIPTION.format(subject=subject)
    messages, schemas = _messages(catalogue)
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {
            "title": f"Muster {subject} events",
            "version": version,
            "description": description,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": DATA_CONTENT_TYPE,
        "channels": {
            channel: {
                "address": topic,
                "description": description,
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"kafka": _topic_binding(topic, partitions, replicas, configs)},
            }
        },
        "operations": {
            f"publish{channel[0].upper()}{channel[1:]}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{channel}"},
                "summary": "Muster's relay publishes each event once, in one Kafka transaction with others.",
                "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
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


def _messages(catalogue: Catalogue[Any, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A message for each type, by its short name, and the schemas that their values refer to."""
    references, definitions = models_json_schema(
        [(event_class, "serialization") for event_class in catalogue.classes.values()],
        ref_template="#/components/schemas/{model}",
    )
    payloads = {type_: references[each, "serialization"] for type_, each in catalogue.classes.items()}
    payloads[catalogue.tombstone_type] = {"type": "null"}
    classes = {**catalogue.classes, catalogue.tombstone_type: catalogue.tombstone}
    messages = {
        short_name(type_): _message(catalogue, type_, event_class, payloads[type_])
        for type_, event_class in classes.items()
    }
    return messages, opened(definitions["$defs"])


def _message(catalogue: Catalogue[Any, Any], type_: str, event_class: type, payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": type_,
        "title": event_class.__name__,
        "summary": (event_class.__doc__ or "").strip().partition("\n")[0],
        "contentType": DATA_CONTENT_TYPE,
        "headers": header_schema(catalogue, type_),
        "payload": payload,
        "correlationId": {
            "description": "The request that led to the event.",
            "location": "$message.header#/ce_correlationid",
        },
        "bindings": {
            "kafka": {
                "key": {**_UUID, "description": f"The {catalogue.subject}'s id."},
                "bindingVersion": BINDING_VERSION,
            },
        },
    }


def header_schema(catalogue: Catalogue[Any, Any], type_: str) -> dict[str, Any]:
    """CloudEvents 1.0 in the binary mode of its Kafka binding: every header is UTF-8 text."""
    text = {"type": "string"}
    headers: dict[str, dict[str, Any]] = {
        "ce_specversion": {**text, "const": SPEC_VERSION},
        "ce_id": {**_UUID, "description": "The event's id, the same in any republication."},
        "ce_source": {**text, "const": catalogue.source},
        "ce_type": {**text, "const": type_},
        "ce_subject": {**_UUID, "description": f"The {catalogue.subject}'s id; equal to the key."},
        "ce_time": {**text, "format": "date-time", "description": "RFC 3339, UTC, microseconds."},
        "ce_sequence": {
            **text,
            "pattern": "^[0-9]{20}$",
            "description": f"The {catalogue.subject}'s version after the event.",
        },
        "ce_correlationid": {**text, "description": "The request's id."},
        "ce_causationid": {**text, "description": "The command's id."},
        "ce_dataschema": {**text, "const": data_schema(type_), "description": "A path on the command API."},
        "content-type": {**text, "const": DATA_CONTENT_TYPE},
    }
    actor = {**text, "pattern": f"^{ACTOR_PATTERN}$"}
    optional = {
        "ce_actor": {**actor, "description": f"Who made the change: an id, or `self` for the {catalogue.subject}."},
        "ce_onbehalfof": {**actor, "description": "For whom, where the actor acted for somebody else (RFC 8693)."},
        "traceparent": {**text, "description": "W3C Trace Context, where there is one."},
    }
    return {"type": "object", "required": list(headers), "properties": headers | optional}
