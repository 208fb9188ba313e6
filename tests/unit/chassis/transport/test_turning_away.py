"""Refusals ahead of the app: which requests get them, what they say, and that the connection goes on."""

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from chassis.http.health import PROBES
from chassis.http.overload.admission import Admission
from chassis.http.transport.connections import BEGUN_AT_ONCE
from tests.unit.chassis.test_http_api import make_app
from tests.unit.chassis.transport.serving import Listener, listening

HOST = b"Host: 127.0.0.1\r\n"
PATCH = b"PATCH /things/%C3%BC?q=1 HTTP/1.1\r\n" + HOST + b"X-Request-Id: mine\r\nContent-Length: 2\r\n\r\n{}"


class Behind(Admission):
    """Too many wait, as long as it is told so."""

    too_many = True

    def refuses(self, path: str) -> bool:
        return self.too_many and path not in PROBES


@pytest.fixture
def turns() -> Behind:
    return Behind(1)


@pytest.fixture
def app(turns: Behind) -> FastAPI:
    return make_app(admission=turns)


@pytest.fixture
async def ahead(app: FastAPI) -> AsyncIterator[Listener]:
    """An app that refuses nobody, with what the real one leaves for the transport."""
    async with app.router.lifespan_context(app) as state, listening(app_state=dict(state or {})) as listener:
        yield listener


@pytest.fixture
async def within(app: FastAPI) -> AsyncIterator[Listener]:
    """The app, for whose words the transport is deaf."""
    async with app.router.lifespan_context(app), listening(app) as listener:
        yield listener


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


async def test_it_is_the_answer_that_the_app_itself_gives(ahead: Listener, within: Listener) -> None:
    before = counted("muster_http_requests_total", method="PATCH", status="503")
    first, second = await ahead.answer_to(PATCH), await within.answer_to(PATCH)

    assert first.problem == "busy"
    assert (first.headers["retry-after"], first.headers["x-request-id"]) == ("1", "mine")
    assert first.document["instance"] == "/things/%C3%BC"
    assert first.document == second.document
    assert {**first.headers, "date": ""} == {**second.headers, "date": ""}
    assert counted("muster_http_requests_total", method="PATCH", status="503") == before + 2


@pytest.mark.parametrize(
    "request_",
    [
        PATCH.replace(HOST, HOST + b"Origin: https://shop.example\r\n"),
        PATCH.replace(b"PATCH", b"OPTIONS"),
        b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
)
async def test_the_app_sees_what_needs_more_of_it(ahead: Listener, request_: bytes) -> None:
    assert (await ahead.answer_to(request_)).status == 200


async def test_a_page_can_read_why(turns: Behind) -> None:
    app = make_app(cors=["https://shop.example"], admission=turns)
    async with app.router.lifespan_context(app) as state, listening(app, app_state=dict(state or {})) as listener:
        answer = await listener.answer_to(PATCH.replace(HOST, HOST + b"Origin: https://shop.example\r\n"))

    assert (answer.problem, answer.headers["access-control-allow-origin"]) == ("busy", "https://shop.example")


async def test_the_connection_goes_on(ahead: Listener, turns: Behind) -> None:
    async with await ahead.connect() as client:
        assert [(await client.asks(PATCH)).status for _ in range(3)] == [503, 503, 503]
        turns.too_many = False
        assert (await client.asks(PATCH)).document["body"] == "{}"
        turns.too_many = True
        ending = await client.asks(PATCH.replace(HOST, HOST + b"Connection: close\r\n"))

        assert (ending.status, ending.headers["connection"]) == (503, "close")
        assert await client.is_over()


async def test_requests_behind_one_another_go_to_the_app_but_for_the_last(ahead: Listener) -> None:
    async with await ahead.connect() as client:
        await client.send(PATCH + PATCH)
        assert [(await client.answer()).status for _ in range(2)] == [200, 503]
        await client.send(PATCH[:-1])
        await client.send(PATCH[-1:])
        assert (await client.answer()).document["body"] == "{}", "its head came without the body"


async def test_who_ends_with_its_request_is_answered_once_and_is_no_fault_of_the_request(ahead: Listener) -> None:
    before = counted("muster_http_refusals_total", reason="malformed")
    clients = [await ahead.connect() for _ in range(3 * BEGUN_AT_ONCE)]
    for client in clients:
        client.writer.write(PATCH.replace(HOST, HOST + b"Connection: close\r\n"))
        client.stop_sending()

    answers = [await client.answer() for client in clients]
    rests = [await client.rest() for client in clients]
    for client in clients:
        client.writer.transport.abort()

    assert {answer.status for answer in answers} == {503}
    assert set(rests) == {b""}
    assert counted("muster_http_refusals_total", reason="malformed") == before
