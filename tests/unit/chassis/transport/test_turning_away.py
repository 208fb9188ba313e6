"""Refusals ahead of the app: which requests get them, what they say, and that the connection goes on."""

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from chassis.http.admission import Admission
from tests.unit.chassis.test_http_api import make_app
from tests.unit.chassis.transport.serving import Answer, Listener, listening

HOST = b"Host: 127.0.0.1\r\n"
PATCH = b"PATCH /things/%C3%BC?q=1 HTTP/1.1\r\n" + HOST + b"X-Request-Id: mine\r\nContent-Length: 2\r\n\r\n{}"


class Behind(Admission):
    """Too many wait, as long as it is told so."""

    is_behind = True


@pytest.fixture
def turns() -> Behind:
    return Behind(1)


@pytest.fixture
async def app(turns: Behind) -> FastAPI:
    return make_app(cors=["https://shop.example"], admission=turns)


@pytest.fixture
async def listener(app: FastAPI) -> AsyncIterator[Listener]:
    async with app.router.lifespan_context(app) as state, listening(app, app_state=dict(state or {})) as listener:
        yield listener


def said(answer: Answer) -> tuple[object, ...]:
    """All of it but what differs each time."""
    headers = {name.lower(): value for name, value in answer.headers.items() if name.lower() != "date"}
    for cors in ("access-control-allow-origin", "access-control-expose-headers", "vary"):
        headers.pop(cors, None)
    return answer.status, sorted(headers.items()), answer.document


async def test_it_is_the_answer_that_the_app_itself_gives(listener: Listener) -> None:
    ahead = await listener.answer_to(PATCH)
    within = await listener.answer_to(PATCH.replace(HOST, HOST + b"Origin: https://shop.example\r\n"))

    assert ahead.problem == "busy"
    assert (ahead.headers["retry-after"], ahead.headers["x-request-id"]) == ("1", "mine")
    assert ahead.document["instance"] == "/things/%C3%BC"
    assert said(ahead) == said(within)
    assert within.headers["access-control-allow-origin"] == "https://shop.example", "a page can read why"


async def test_no_app_sees_it_and_it_is_counted(app: FastAPI, turns: Behind) -> None:
    def counted() -> float:
        labels = {"method": "PATCH", "status": "503"}
        return REGISTRY.get_sample_value("muster_http_requests_total", labels) or 0

    async with app.router.lifespan_context(app) as state:
        before = counted()

        async with listening(app_state=dict(state or {})) as echoing:
            answer = await echoing.answer_to(PATCH)
            turns.is_behind = False
            served = await echoing.answer_to(PATCH)

    assert (answer.problem, served.status) == ("busy", 200)
    assert counted() == before + 1


async def test_the_connection_goes_on(listener: Listener, turns: Behind) -> None:
    async with await listener.connect() as client:
        assert [(await client.asks(PATCH)).status for _ in range(3)] == [503, 503, 503]
        turns.is_behind = False
        assert (await client.asks(b"GET /things HTTP/1.1\r\n" + HOST + b"\r\n")).body == b"1"
        turns.is_behind = True
        ending = await client.asks(PATCH.replace(HOST, HOST + b"Connection: close\r\n"))

        assert (ending.status, ending.headers["connection"]) == (503, "close")
        assert await client.is_over()


async def test_requests_behind_one_another_and_pieces_of_one_are_refused_too(listener: Listener) -> None:
    async with await listener.connect() as client:
        await client.send(PATCH + PATCH + PATCH[:-1])
        assert [(await client.answer()).status for _ in range(3)] == [503, 503, 503]
        await client.send(PATCH[-1:])
        assert (await client.asks(PATCH)).status == 503


@pytest.mark.parametrize("path", ["/health", "/livez"])
async def test_health_is_answered(listener: Listener, path: str) -> None:
    assert (await listener.answer_to(f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"\r\n")).status == 200


async def test_head_gets_no_body(listener: Listener) -> None:
    async with await listener.connect() as client:
        await client.send(b"HEAD /things HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
        assert (await client.answer("HEAD")).status == 503
        assert await client.is_over()
