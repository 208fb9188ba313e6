"""Spans of messages, by the semantic conventions for messaging and Kafka.

A record carries the context in which its event was made: its creation context, which nobody changes on its way. A page
that is sent and a batch that is processed are about many traces, so each has a trace of its own that links to theirs;
about one record alone, it is a part of that record's trace. Only recorded traces count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Final, Protocol

from chassis.tracing.context import SpanContext, read_traceparent
from chassis.tracing.spans import Attribute, Attributes, Span, SpanKind, Tracer

#: The specification's limit of a span.
MOST_LINKS: Final = 128
#: Of a page or batch only so many records are looked at: in a backlog, which has thousands, the look is what costs.
LOOKED_AT: Final = 1024
_TRACEPARENT: Final = "traceparent"

_NOTHING: Final[AbstractContextManager[None]] = nullcontext()


class ConsumedRecord(Protocol):
    """What is read of a record; aiokafka's has it."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


def recorded(tracer: Tracer, traceparents: Iterable[str | None]) -> list[SpanContext]:
    """The recorded ones of the first `LOOKED_AT`, each once, at most `MOST_LINKS`: an import has one for all."""
    contexts = map(read_traceparent, dict.fromkeys(islice(traceparents, LOOKED_AT)))
    return list(islice((context for context in contexts if context and tracer.is_recorded(context)), MOST_LINKS))


def send_span(tracer: Tracer, topic: str, created: Sequence[SpanContext], records: int) -> Span:
    """The sending of a page of so many records, of which these have recorded traces."""
    attributes = _about("send", topic, records)
    if records == 1:
        span = tracer.below(created[0], f"send {topic}", SpanKind.CLIENT, attributes)
        span.links = created
        return span
    return tracer.linked(f"send {topic}", SpanKind.CLIENT, created, attributes)


class Processing:
    """The processing of batches of one topic by one consumer group."""

    def __init__(self, tracer: Tracer, *, topic: str, group: str, attributes: Attributes) -> None:
        """`attributes` are what the spans say beside the conventions' own."""
        self._tracer = tracer
        self._topic = topic
        self._attributes = {"messaging.consumer.group.name": group, **attributes}

    def of(self, records: Sequence[ConsumedRecord]) -> AbstractContextManager[Span | None]:
        """The processing of these records; nothing where none of their traces is recorded."""
        created = recorded(self._tracer, (_traceparent(record.headers) for record in records))
        if not created:
            return _NOTHING
        attributes: dict[str, Attribute] = {**_about("process", self._topic, len(records)), **self._attributes}
        name = f"process {self._topic}"
        if len(records) > 1:
            return self._tracer.linked(name, SpanKind.CONSUMER, created, attributes)
        record = records[0]
        attributes["messaging.destination.partition.id"] = str(record.partition)
        attributes["messaging.kafka.offset"] = record.offset
        if record.value is None:
            attributes["messaging.kafka.message.tombstone"] = True
        span = self._tracer.below(created[0], name, SpanKind.CONSUMER, attributes)
        span.links = created
        return span


def _traceparent(headers: Sequence[tuple[str, bytes | None]]) -> str | None:
    # It is among the last.
    for name, value in reversed(headers):
        if name == _TRACEPARENT:
            return None if value is None else value.decode("latin-1")
    return None


def _about(operation: str, topic: str, records: int) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
    }
    if records > 1:
        attributes["messaging.batch.message_count"] = records
    return attributes
