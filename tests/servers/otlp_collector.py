"""A collector of traces: it takes OTLP by HTTP as any other does, and keeps what came, read by OpenTelemetry's own
definitions of the messages.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from chassis.tracing.otlp import encode_request, encode_resource, encode_span
from chassis.tracing.sampling import SamplerName, sampler
from chassis.tracing.spans import Span, Tracer
from tests.waiting import until

WITHIN = 60


@dataclass(frozen=True)
class ReceivedSpan:
    """One span, with the name of the process that sent it."""

    service: str
    name: str
    kind: int
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    start: int
    end: int
    attributes: dict[str, Any]
    links: list[tuple[bytes, bytes]]
    has_failed: bool

    def is_part_of(self, other: ReceivedSpan) -> bool:
        """Whether the other is its parent."""
        return (self.trace_id, self.parent_id) == (other.trace_id, other.span_id)

    def follows(self, other: ReceivedSpan) -> bool:
        """Whether it is a part of the other, or links to it."""
        return self.is_part_of(other) or (other.trace_id, other.span_id) in self.links


@dataclass
class Collector:
    """What came so far; `status` is what it answers from now on."""

    url: str = ""
    status: int = 200
    spans: list[ReceivedSpan] = field(default_factory=list)
    #: The resource's attributes, of the last request of each service.
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Keep one request, unless the answer is a refusal."""
        self.paths.append(path)
        self.headers.append(headers)
        if self.status == 200:
            self.bodies.append(body)
            self._read(ExportTraceServiceRequest.FromString(body))
        return self.status

    async def span(self, name: str, **more: Any) -> ReceivedSpan:
        """The first span of this name and these attributes or fields, once it has come."""

        async def found() -> ReceivedSpan | None:
            return next((span for span in self.named(name) if _has(span, more)), None)

        span = await until(found, within=WITHIN, what=f"a span {name} {more}")
        assert span is not None
        return span

    def named(self, name: str) -> list[ReceivedSpan]:
        """All spans of this name."""
        return [span for span in list(self.spans) if span.name == name]

    def _read(self, request: Any) -> None:
        for of_resource in request.resource_spans:
            resource = _values(of_resource.resource.attributes)
            self.resources[resource["service.name"]] = resource
            for of_scope in of_resource.scope_spans:
                assert of_scope.scope.name == "muster"
                self.spans += [_received(span, resource["service.name"]) for span in of_scope.spans]


class Recorder:
    """A tracer of the test's own, whose clock counts, and what it recorded as a collector reads it."""

    def __init__(self, name: SamplerName = "parentbased_always_on", share: float = 1.0) -> None:
        ticks = count(1)
        self.tracer = Tracer(sampler(name, share), self._record, now=lambda: next(ticks), rng=random.Random(1))
        self._spans: list[bytes] = []

    def _record(self, span: Span, end: int) -> None:
        self._spans.append(encode_span(span, end))

    def read(self) -> list[ReceivedSpan]:
        """What has ended so far, in that order."""
        collector = Collector()
        collector.take("", {}, encode_request(encode_resource({"service.name": "test"}), "muster", self._spans))
        return collector.spans


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of its own, until the block ends."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            names = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(collector.take(self.path, names, body))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Say nothing on the tests' screen."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _received(span: Any, service: str) -> ReceivedSpan:
    return ReceivedSpan(
        service=service,
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_span_id,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        links=[(link.trace_id, link.span_id) for link in span.links],
        has_failed=span.status.code == span.status.STATUS_CODE_ERROR,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def _has(span: ReceivedSpan, wanted: dict[str, Any]) -> bool:
    return all(getattr(span, name, span.attributes.get(name)) == value for name, value in wanted.items())
