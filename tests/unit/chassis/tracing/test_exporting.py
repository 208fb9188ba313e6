"""Spans on their way: to a collector, and to none."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from chassis.tracing import exporting as sending
from chassis.tracing.exporting import BATCH_SPANS, QUEUE_SPANS
from chassis.tracing.process import ProcessTracer, exporting
from chassis.tracing.settings import Tracing
from chassis.tracing.spans import SpanKind
from local_stack.ports import free_port
from tests.servers.otlp_collector import Collector, collecting
from tests.waiting import until

WITHIN = 30


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as opened:
        yield opened


@pytest.fixture(autouse=True)
def promptly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "DELAY_SECONDS", 0.05)


def make_tracer(url: str, **variables: Any) -> ProcessTracer:
    settings = Tracing(_env_file=None, OTEL_EXPORTER_OTLP_ENDPOINT=url, **variables)
    tracer = ProcessTracer.of(settings, "test")
    assert tracer is not None
    return tracer


def record(tracer: ProcessTracer, spans: int = 1) -> None:
    for number in range(spans):
        span = tracer.begin(f"span {number}", SpanKind.INTERNAL, None)
        assert span is not None
        span.end()


def lost(reason: str) -> float:
    return float(sending._LOST.labels(reason)._value.get())


async def test_spans_reach_the_collector_with_its_headers_and_whose_they_are(collector: Collector) -> None:
    tracer = make_tracer(
        f"{collector.url}/",
        OTEL_EXPORTER_OTLP_HEADERS="api-key=a%20secret, x-scope=users",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test,service.name=mine",
    )
    before = time.time_ns()
    async with exporting(tracer):
        record(tracer, 3)
        span = await collector.span("span 2")

    assert before <= span.start <= span.end <= time.time_ns()
    assert set(collector.paths) == {"/v1/traces"}
    sent = collector.headers[0]
    assert (sent["api-key"], sent["x-scope"], sent["content-type"]) == ("a secret", "users", "application/x-protobuf")
    resource = collector.resources["mine"]
    assert (resource["service.namespace"], resource["deployment.environment.name"]) == ("muster", "test")
    assert resource["service.instance.id"]


async def test_what_is_queued_is_sent_when_the_process_ends(collector: Collector) -> None:
    tracer = make_tracer(collector.url)
    async with exporting(tracer):
        record(tracer, BATCH_SPANS - 1)

    assert len(collector.spans) == BATCH_SPANS - 1


async def test_a_collector_that_is_away_costs_a_line_and_what_has_no_place_in_the_queue(collector: Collector) -> None:
    tracer, before = make_tracer(f"http://127.0.0.1:{free_port()}"), lost("queue-full")
    with capture_logs() as lines:
        async with exporting(tracer):
            record(tracer, QUEUE_SPANS + 10)
            await until(lambda: unavailable(lines), within=WITHIN, what="the line of an outage")
            # A batch waits to be sent again, and made room.
            record(tracer, BATCH_SPANS)
            tracer.exporter._url = f"{collector.url}/v1/traces"
            await until(lambda: is_received(collector, QUEUE_SPANS + BATCH_SPANS), within=WITHIN, what="all spans")

    assert [line["event"] for line in lines] == ["tracing.collector_unavailable", "tracing.collector_available"]
    assert lost("queue-full") - before == 10


async def unavailable(lines: list[Any]) -> bool:
    return any(line["event"] == "tracing.collector_unavailable" for line in lines)


async def is_received(collector: Collector, spans: int) -> bool:
    return len(collector.spans) >= spans


async def test_a_batch_that_a_collector_would_have_later_is_sent_again(collector: Collector) -> None:
    collector.status = 503
    tracer = make_tracer(collector.url)
    with capture_logs() as lines:
        async with exporting(tracer):
            record(tracer)
            await until(lambda: is_asked(collector, 2), within=WITHIN, what="a second try")
            collector.status = 200
            await collector.span("span 0")

    assert [line.get("reason") for line in lines] == ["the collector answered 503", None]


async def test_a_batch_that_a_collector_refuses_is_dropped(collector: Collector) -> None:
    collector.status = 401
    tracer, before = make_tracer(collector.url), lost("refused")
    with capture_logs() as lines:
        async with exporting(tracer):
            record(tracer, 2)
            await until(lambda: is_lost(before + 2), within=WITHIN, what="the loss to be counted")
            collector.status = 200
            record(tracer, 4)
            await collector.span("span 3")

    # A batch whose answer has not been read when the process ends is sent again.
    assert len({span.span_id for span in collector.spans}) == 4
    assert [line.get("reason") for line in lines] == ["the collector answered 401", None]


async def is_asked(collector: Collector, times: int) -> bool:
    return len(collector.paths) >= times


async def is_lost(spans: float) -> bool:
    return lost("refused") >= spans


async def test_what_a_collector_does_not_take_in_time_at_the_end_is_counted(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    monkeypatch.setattr(sending, "END_SECONDS", 0.0)
    tracer, before = make_tracer(collector.url), lost("stopped")
    async with exporting(tracer):
        record(tracer, 5)

    assert lost("stopped") - before == 5 - len(collector.spans)


def test_without_an_endpoint_there_is_no_tracer_and_nothing_that_sends() -> None:
    made = "ProcessTracer.of(Tracing(_env_file=None), 'test')"
    program = (
        "import sys; from chassis.tracing.process import ProcessTracer; from chassis.tracing.settings import Tracing;"
        f" assert {made} is None; assert not {{'httpx', 'opentelemetry.sdk'}} & set(sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}

    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
