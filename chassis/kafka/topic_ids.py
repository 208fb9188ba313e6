"""The id of the topic that a name means now: a topic that was deleted and made again has another one (KIP-516).

aiokafka's own metadata has no ids, so this is a request of ours, in the version that brought them. Every broker since
Kafka 2.8 answers it.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, String, TaggedFields

_TEXT, _TAGS = CompactString(), ("tags", TaggedFields)


class _Uuid(String):  # type: ignore[misc] # aiokafka has no types; a schema takes instances of this class
    def encode(self, value: UUID) -> bytes:
        return value.bytes

    def decode(self, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


_TOPIC = ("id", _Uuid())


class _MetadataResponse(Response):  # type: ignore[misc] # as above
    API_KEY, API_VERSION = 3, 10
    SCHEMA = Schema(
        ("throttle_ms", Int32),
        ("brokers", CompactArray(("id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), _TAGS)),
        ("cluster", _TEXT),
        ("controller", Int32),
        # The rest behind the first topic's id is not read.
        ("topics", CompactArray(("error", Int16), ("name", _TEXT), _TOPIC)),
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc] # as above
    API_KEY, API_VERSION, RESPONSE_TYPE, FLEXIBLE_VERSION = 3, 10, _MetadataResponse, True
    SCHEMA = Schema(
        ("topics", CompactArray(_TOPIC, ("name", _TEXT), _TAGS)),
        ("create", Boolean),
        ("cluster_rights", Boolean),
        ("topic_rights", Boolean),
        _TAGS,
    )

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> _MetadataRequest:
        """There is one version of it."""
        del versions
        return self


async def topic_id(consumer: AIOKafkaConsumer, name: str) -> UUID | None:
    """The id of the topic of this name, asked of a broker through the consumer's connections; None: there is none.

    Raises:
        KafkaError, OSError, TimeoutError: no answer.
    """
    client: Any = consumer._client  # noqa: SLF001 - not public: the connections and who is at their ends
    node = client.get_random_node()
    if node is None:
        raise KafkaConnectionError("no broker is known")
    answer = await client.send(node, _MetadataRequest([(UUID(int=0), name, {})], False, False, False, {}))
    code, _, found = answer.topics[0]
    if code == UnknownTopicOrPartitionError.errno:
        return None
    if code:
        raise for_code(code)(name)
    identity: UUID = found
    return identity
