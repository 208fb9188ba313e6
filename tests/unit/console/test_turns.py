"""What the console takes on at once: who is behind too many is told so, and what is live holds nobody's place."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

from chassis.http.overload.admission import AT_ONCE, Admission, InTurn
from console.app import create_app
from console.settings import ConsoleSettings
from console.streams import Stream, event
from tests.waiting import until

SETTINGS: dict[str, Any] = {
    "AUTH_DISABLED": "true",
    "CONSOLE_SECRET": "a secret of thirty-two characters",
    **{f"OPERATOR_POSTGRES_{name}": "x" for name in ("USER", "PASSWORD")},
    **dict.fromkeys(("POSTGRES_SERVER", "COMMAND_POSTGRES_DB", "QUERY_POSTGRES_DB"), "x"),
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    **{f"CONSOLE_{api}_URL": "http://127.0.0.1:1" for api in ("COMMAND", "QUERY", "EVENTS")},
}


@pytest.fixture
def app() -> Starlette:
    """Nothing of it is open: what looks for a session fails."""
    return create_app(ConsoleSettings(_env_file=None, **SETTINGS))


@pytest.fixture
async def http(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


async def test_who_is_behind_too_many_is_told_in_a_page_before_a_session_is_looked_for(
    app: Starlette, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.state.admission, "refuses", lambda path: path != "/health")
    page, health = await http.get("/users"), await http.get("/health")

    assert (page.status_code, page.headers["retry-after"]) == (503, "1")
    assert page.headers["content-type"].startswith("text/html")
    assert health.status_code == 200


async def test_a_page_waits_for_its_turn_and_a_probe_does_not(app: Starlette, http: httpx.AsyncClient) -> None:
    admission: Admission = app.state.admission
    for _ in range(AT_ONCE):
        await admission.take()
    waiting = asyncio.create_task(http.get("/no-such-page"))

    async def waits() -> bool:
        return admission.waiting == 1

    await until(waits, within=10, what="the page waits")
    assert (await http.get("/health")).status_code == 200
    assert not waiting.done()
    admission.free()
    assert (await waiting).status_code == 404


async def test_what_is_live_leaves_its_place() -> None:
    admission, goes_on, sent = Admission(1), asyncio.Event(), list[Message]()

    async def parts() -> AsyncGenerator[bytes]:
        yield event("rows", "first")
        await goes_on.wait()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Stream(parts())(scope, receive, send)

    async def receive() -> Message:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return] # nothing comes

    async def send(message: Message) -> None:
        sent.append(message)

    live = asyncio.create_task(
        InTurn(app, admission=admission)({"type": "http", "method": "GET", "path": "/"}, receive, send)
    )

    async def has_begun() -> bool:
        return len(sent) > 1

    await until(has_begun, within=10, what="the stream has begun")
    await asyncio.wait_for(admission.take(), 10)
    goes_on.set()
    await live
