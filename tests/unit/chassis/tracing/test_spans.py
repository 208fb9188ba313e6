"""Spans: what is recorded of steps within steps, and that nothing is where nothing is sampled."""

import pytest

from chassis.tracing.context import SpanContext, read_traceparent
from chassis.tracing.messaging import LOOKED_AT, MOST_LINKS, Processing, recorded, send_span
from chassis.tracing.spans import SpanKind, active, step
from tests.servers.otlp_collector import Recorder

CALLER = SpanContext(b"t" * 16, b"s" * 8)


def test_steps_are_parts_of_what_is_active_and_of_its_trace() -> None:
    recorder = Recorder()
    root = recorder.tracer.begin("root", SpanKind.SERVER, CALLER)
    assert root is not None
    with root, step("outer", attributes={"yes": True, "count": -2, "large": 2**40, "text": "é"}), step("inner"):
        assert active() is not None
    inner, outer, received = recorder.read()

    assert active() is None
    assert (received.trace_id, received.parent_id, received.kind) == (CALLER.trace_id, CALLER.span_id, SpanKind.SERVER)
    assert inner.is_part_of(outer)
    assert outer.is_part_of(received)
    assert outer.attributes == {"yes": True, "count": -2, "large": 2**40, "text": "é"}
    assert outer.attributes["yes"] is True
    assert (received.start, outer.start, inner.start, inner.end, outer.end, received.end) == (1, 2, 3, 4, 5, 6)
    assert len({span.span_id for span in (inner, outer, received)}) == 3


def test_nothing_is_recorded_of_a_trace_that_is_not_sampled() -> None:
    recorder = Recorder("parentbased_traceidratio", 0.0)

    assert recorder.tracer.begin("root", SpanKind.SERVER, None) is None
    assert recorder.tracer.begin("root", SpanKind.SERVER, CALLER._replace(is_sampled=False)) is None
    with step("step") as span:
        assert span is None
    assert recorder.read() == []


def test_a_trace_of_its_own_has_an_id_of_its_own_and_no_parent() -> None:
    recorder = Recorder()
    for _ in range(2):
        root = recorder.tracer.begin("root", SpanKind.SERVER, None)
        assert root is not None
        root.end()

    first, second = recorder.read()
    assert first.trace_id != second.trace_id
    assert first.parent_id == b""


def test_an_error_is_told_by_its_class_and_never_by_its_words() -> None:
    recorder = Recorder()
    root = recorder.tracer.begin("root", SpanKind.SERVER, None)
    assert root is not None
    with pytest.raises(ValueError, match="ann@"), root:
        raise ValueError("ann@example.com")

    (span,) = recorder.read()
    assert span.has_failed
    assert span.attributes == {"error.type": "ValueError"}


def test_a_page_links_to_what_it_is_about_and_is_a_part_of_a_single_one() -> None:
    recorder = Recorder()
    others = [SpanContext(bytes([number]) * 16, bytes([number]) * 8) for number in (1, 2)]
    with send_span(recorder.tracer, "events", others, 5):
        pass
    with send_span(recorder.tracer, "events", others[:1], 1):
        pass

    several, single = recorder.read()
    assert (several.name, several.kind, several.parent_id) == ("send events", SpanKind.CLIENT, b"")
    assert several.links == [(other.trace_id, other.span_id) for other in others]
    assert several.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "events",
        "messaging.batch.message_count": 5,
    }
    assert (single.trace_id, single.parent_id) == (others[0].trace_id, others[0].span_id)
    assert single.links == several.links[:1]
    assert "messaging.batch.message_count" not in single.attributes


class ARecord:
    """A record as a consumer gives it."""

    partition = 3
    offset = 7

    def __init__(self, traceparent: str | None, value: bytes | None = b"{}") -> None:
        self.value = value
        own = [] if traceparent is None else [("traceparent", traceparent.encode())]
        self.headers: list[tuple[str, bytes | None]] = [("ce_id", b"1"), *own, ("content-type", b"application/json")]


def test_a_batch_is_told_of_where_one_of_its_traces_is_recorded() -> None:
    recorder = Recorder()
    processing = Processing(
        recorder.tracer, topic="events", group="muster.users.g1", attributes={"muster.generation": 1}
    )
    silent = ARecord(CALLER._replace(is_sampled=False).traceparent)
    for records in (
        [ARecord(None), silent, ARecord("broken")],
        [ARecord(None), ARecord(CALLER.traceparent)],
        [ARecord(CALLER.traceparent, None)],
    ):
        with processing.of(records):
            pass

    batch, single = recorder.read()
    assert (batch.name, batch.kind, batch.parent_id) == ("process events", SpanKind.CONSUMER, b"")
    assert batch.links == single.links == [(CALLER.trace_id, CALLER.span_id)]
    assert batch.attributes["messaging.batch.message_count"] == 2
    assert single.parent_id == CALLER.span_id
    assert single.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "events",
        "messaging.consumer.group.name": "muster.users.g1",
        "muster.generation": 1,
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 7,
        "messaging.kafka.message.tombstone": True,
    }


def test_each_context_is_linked_to_once_and_links_have_a_bound() -> None:
    others = [SpanContext(number.to_bytes(16, "big"), b"s" * 8).traceparent for number in range(1, MOST_LINKS + 2)]

    assert recorded(Recorder().tracer, [CALLER.traceparent] * 2) == [CALLER]
    assert len(recorded(Recorder().tracer, others)) == MOST_LINKS
    assert recorded(Recorder().tracer, [*[None] * (LOOKED_AT - 1), *others[:2]]) == [read_traceparent(others[0])]
