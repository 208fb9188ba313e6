"""The AsyncAPI document says what is published: the topic, every type, key, headers, value, tombstone."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema_rs
import pytest

from chassis import __version__
from chassis.settings import Topics
from cli.events.command import asyncapi
from events.asyncapi import describe_topic
from events.catalogue import short_name
from events.envelope import Envelope
from events.user_events import USER_EVENTS
from outbox.topics import wanted_topics

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """The document of an installation with the defaults."""
    topic = wanted_topics(Topics(_env_file=None))[0]
    return describe_topic(
        USER_EVENTS,
        version="1.2.3",
        topic=topic.name,
        partitions=topic.partitions,
        replicas=topic.replication_factor,
        configs=topic.configs,
    )


def _envelope(type_: str) -> Envelope:
    return Envelope(
        event_id=UUID("0199d0c8-7d5c-7c5e-8a3f-0123456789ac"),
        type=type_,
        source=USER_EVENTS.source,
        subject_id=UUID("0199d0c8-7d5c-7c5e-8a3f-0123456789ab"),
        version=2,
        time=datetime(2026, 11, 22, 10, tzinfo=UTC),
        correlation_id="checkout-4711",
        causation_id="0199d0c8-7d5c-7c5e-8a3f-0123456789ad",
        actor="support%2F7",
        on_behalf_of="sha256:0123456789abcdef0123456789abcdef",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)


def _message(described: dict[str, Any], type_: str) -> dict[str, Any]:
    message: dict[str, Any] = described["components"]["messages"][short_name(type_)]
    return message


def _validator(described: dict[str, Any], schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """What pydantic writes is of this draft; references lead into the document."""
    return jsonschema_rs.Draft202012Validator({"components": described["components"], **schema}, validate_formats=True)


def test_it_is_an_asyncapi_3_document_whose_references_all_lead_somewhere(described: dict[str, Any]) -> None:
    assert described["asyncapi"] == "3.0.0"
    assert described["info"]["version"] == "1.2.3"
    references = set(_references(described))
    assert references
    for reference in references:
        node: Any = described
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_it_names_the_topic_with_its_division_and_policy(described: dict[str, Any]) -> None:
    channel = described["channels"]["userEvents"]
    binding = channel["bindings"]["kafka"]

    assert channel["address"] == binding["topic"] == "users.events"
    assert (binding["partitions"], binding["replicas"]) == (12, 1)
    assert binding["topicConfiguration"] == {
        "cleanup.policy": ["compact"],
        "delete.retention.ms": 604_800_000,
        "max.message.bytes": 1_048_576,
    }


def test_it_names_every_type_and_no_other_and_that_muster_sends_them(described: dict[str, Any]) -> None:
    operation = described["operations"]["publishUserEvents"]
    names = [short_name(type_) for type_ in USER_EVENTS.types()]

    assert [message["name"] for message in described["components"]["messages"].values()] == USER_EVENTS.types()
    assert list(described["channels"]["userEvents"]["messages"]) == names
    assert operation["action"] == "send"
    assert [each["$ref"].rpartition("/")[2] for each in operation["messages"]] == names


@pytest.mark.parametrize("type_", USER_EVENTS.types())
def test_the_headers_are_those_that_are_written(described: dict[str, Any], type_: str) -> None:
    schema = _message(described, type_)["headers"]
    written = {name: value.decode() for name, value in _envelope(type_).headers()}

    assert set(schema["properties"]) == set(written)
    assert set(schema["properties"]) - set(schema["required"]) == {"ce_actor", "ce_onbehalfof", "traceparent"}
    _validator(described, schema).validate(written)
    actors = ({"ce_actor": "a@b"}, {"ce_onbehalfof": "x" * 256})
    others = ({"ce_type": "other"}, {"ce_sequence": "2"}, {"ce_id": "no id"}, {"ce_dataschema": "/other"})
    for spoilt in actors + others:
        assert not _validator(described, schema).is_valid(written | spoilt)


@pytest.mark.parametrize("type_", USER_EVENTS.types())
def test_the_key_is_the_users_id(described: dict[str, Any], type_: str) -> None:
    key = _message(described, type_)["bindings"]["kafka"]["key"]

    assert (key["type"], key["format"]) == ("string", "uuid")


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.stem)
def test_what_is_published_is_what_is_described(described: dict[str, Any], path: Path) -> None:
    value = json.loads(path.read_bytes())
    validator = _validator(described, _message(described, path.stem)["payload"])

    validator.validate(value)
    assert not validator.is_valid({"previous": {}})
    assert validator.is_valid(value | {"later": 1, "user": value["user"] | {"later": 1, "status": "suspended"}})
    assert not validator.is_valid(value | {"user": value["user"] | {"version": 0}})


def test_an_erasure_has_no_value(described: dict[str, Any]) -> None:
    assert _message(described, USER_EVENTS.tombstone_type)["payload"] == {"type": "null"}


def test_the_command_prints_it_for_the_topic_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVENTS_TOPIC", "people")
    monkeypatch.setenv("TOPIC_PARTITIONS", "24")

    asyncapi()

    printed = json.loads(capsys.readouterr().out)
    assert printed["channels"]["userEvents"]["address"] == "people"
    assert printed["channels"]["userEvents"]["bindings"]["kafka"]["partitions"] == 24
    assert printed["info"]["version"] == __version__
