"""The span of a request: whose trace it is in, what it says, and what it never says."""

from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from chassis.http.middleware import ROUTE, RequestContext
from chassis.http.tracing import Traced, outgoing, traced
from chassis.tracing.context import read_traceparent
from chassis.tracing.sampling import SamplerName
from chassis.tracing.spans import SpanKind, active
from tests.servers.otlp_collector import ReceivedSpan, Recorder

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Api:
    """An app behind the middleware, and the spans of it."""

    def __init__(self, name: SamplerName = "parentbased_always_on", **answer: Any) -> None:
        self._recorder = Recorder(name)
        self._answer = {"status": 200, "route": "/users/{id}", **answer}
        #: What requests to others would carry.
        self.passed_on: dict[str, str] = {}

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        if self._answer["route"]:
            scope[ROUTE] = self._answer["route"]
        self.passed_on = outgoing()
        if self._answer["status"] is None:
            raise RuntimeError("ann@example.com")
        await send({"type": "http.response.start", "status": self._answer["status"], "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(self, method: str = "GET", path: str = "/users/1?email=ann@example.com", **headers: str) -> None:
        app = RequestContext(Traced(self, tracer=self._recorder.tracer), make_id=lambda: "made-here")
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://ann") as client:
            await client.request(method, path, headers=headers)

    def spans(self) -> list[ReceivedSpan]:
        return self._recorder.read()


async def test_a_request_is_a_part_of_its_callers_trace_and_passes_its_own_span_on() -> None:
    api = Api()
    await api.ask(traceparent=CALLER)

    (span,) = api.spans()
    caller = read_traceparent(CALLER)
    assert caller is not None
    assert (span.trace_id, span.parent_id, span.kind) == (caller.trace_id, caller.span_id, SpanKind.SERVER)
    passed_on = read_traceparent(api.passed_on["traceparent"])
    assert passed_on == (span.trace_id, span.span_id, True)
    assert active() is None
    assert outgoing() == {}


async def test_it_says_the_template_and_nothing_else_that_a_client_chose() -> None:
    api = Api(status=404)
    await api.ask(traceparent=CALLER, cookie="ann", referer="ann", baggage="ann", tracestate="ann=1")

    (span,) = api.spans()
    assert span.name == "GET /users/{id}"
    assert not span.has_failed
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": "/users/{id}",
        "url.path": "/users/{id}",
        "url.scheme": "http",
        "http.response.status_code": 404,
        "muster.request_id": "made-here",
    }


@pytest.mark.parametrize("status", [500, None])
async def test_a_failure_is_told_by_its_status_or_its_class(status: int | None) -> None:
    api = Api(status=status, route=None)
    await api.ask("ANN")

    (span,) = api.spans()
    assert (span.name, span.has_failed) == ("HTTP", True)
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["error.type"] == ("500" if status else "RuntimeError")
    assert "url.path" not in span.attributes


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("always_off", {"traceparent": CALLER}),
        ("parentbased_always_on", {"traceparent": CALLER[:-1] + "0"}),
        ("parentbased_always_off", {}),
    ],
)
async def test_what_is_not_sampled_leaves_no_trace(name: SamplerName, header: dict[str, str]) -> None:
    api = Api(name)
    await api.ask(**header)

    assert api.spans() == []
    assert api.passed_on == {}


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
async def test_probes_leave_no_trace(path: str) -> None:
    api = Api()
    await api.ask(path=path)

    assert api.spans() == []


def test_without_a_tracer_nothing_stands_in_a_requests_way() -> None:
    assert traced(None) == []
