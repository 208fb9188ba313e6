"""Which imports are taken at once: who sends slowly, half or too much keeps nobody else out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack

import httpx
import pytest
from fastapi import FastAPI

from chassis.http.transport.client import Client, client
from command_api.http import imports as routes
from command_api.imports.places import (
    BODIES_AT_ONCE,
    BODIES_OF_A_CALLER,
    BODY_SECONDS,
    LATE_BYTES,
    Body,
    ImportsBusyError,
    Places,
)
from tests.integration.command_api.conftest import problem
from tests.integration.command_api.imports.sent_lines import HEADERS, body_of, line, request_of, send
from tests.unit.chassis.transport.serving import listening
from tests.waiting import until


async def test_bodies_that_stand_still_keep_no_other_import_out(api: httpx.AsyncClient, app: FastAPI) -> None:
    has_begun = asyncio.Queue[int]()

    async def stands_still() -> AsyncIterator[bytes]:
        yield b"{}\n"
        has_begun.put_nowait(1)
        await asyncio.Event().wait()

    halves = [asyncio.create_task(api.post("/users/import", content=stands_still(), headers=HEADERS)) for _ in "ab"]
    for _ in halves:
        await has_begun.get()
    places = app.state.resources.imports.places
    [caller] = {body.caller for body in places.bodies}
    whole = await send(api, line("ann"))
    with places.for_body(caller) as third:
        third.came(1)
        one_more = await api.post("/users/import", content=body_of([line("ben")]), headers=HEADERS)
    for half in halves:
        half.cancel()
    await asyncio.gather(*halves, return_exceptions=True)

    assert [result["status"] for result in whole[:-1]] == ["created"]
    problem(one_more, 503, "busy")
    assert not places.bodies


async def test_where_all_places_are_held_by_slow_bodies_the_slowest_gives_way(app: FastAPI) -> None:
    clock = [100.0]
    async with app.router.lifespan_context(app), listening(app) as listener, AsyncExitStack() as connected:
        places = app.state.resources.imports.places
        places.now = lambda: clock[0]
        slow = [await connected.enter_async_context(await listener.connect()) for _ in range(BODIES_AT_ONCE)]
        for number, connection in enumerate(slow):
            whole = request_of(body_of([line("ann")]), f"slow {number // BODIES_OF_A_CALLER}")
            await connection.send(whole[: -10 if number else -20])

            async def has_its_place(number: int = number) -> bool:
                return len(places.bodies) == number + 1

            await until(has_its_place, within=30, what="its place is taken")
        refused = await listener.answer_to(request_of(body_of([line("ben")]), "other"))
        clock[0] += 10
        taken = await listener.answer_to(request_of(body_of([line("cay")]), "other", b"Connection: close\r\n"))
        gave_way = await slow[0].answer()

        assert (refused.status, refused.problem) == (503, "busy")
        assert taken.status == 200
        assert b'"created":1' in taken.body
        assert (gave_way.status, gave_way.problem) == (503, "busy")
        assert "gave way" in gave_way.document["detail"]
        assert len(places.bodies) == BODIES_AT_ONCE - 1


def held(places: Places, caller: str, stack: ExitStack) -> Body:
    body = stack.enter_context(places.for_body(caller))
    body.came(1)
    return body


def test_no_caller_has_all_bodies_and_all_together_have_a_limit() -> None:
    places = Places()
    with ExitStack() as stack:
        for caller in ("a", "b"):
            for _ in range(BODIES_OF_A_CALLER):
                held(places, caller, stack)
            with pytest.raises(ImportsBusyError), places.for_body(caller):
                pass
        for number in range(BODIES_AT_ONCE - 2 * BODIES_OF_A_CALLER):
            held(places, f"other {number}", stack)
        with pytest.raises(ImportsBusyError), places.for_body("late"):
            pass

    assert not places.bodies


def test_a_body_has_no_place_before_its_first_bytes() -> None:
    places = Places()
    with ExitStack() as stack:
        early = [stack.enter_context(places.for_body(f"caller {number}")) for number in range(BODIES_AT_ONCE + 1)]
        early[0].came(0)
        assert not places.bodies
        for body in early[:-1]:
            body.came(1)
        with pytest.raises(ImportsBusyError):
            early[-1].came(1)
        assert len(places.bodies) == BODIES_AT_ONCE


def test_only_a_body_gives_way_that_is_on_its_way_and_late() -> None:
    clock = [100.0]
    places = Places(now=lambda: clock[0])
    token = client.set(sender := Client(has_sent_all=False))
    with ExitStack() as stack:
        body = held(places, "a", stack)
        client.reset(token)
        assert not body.is_slow()
        clock[0] += BODY_SECONDS
        assert body.is_slow()
        body.came(16 * 1024 * 1024 - LATE_BYTES)
        assert not body.is_slow(), "it came as the largest body must"
        clock[0] += BODY_SECONDS
        sender.has_sent_all = True
        assert not body.is_slow(), "it is worked on"


async def test_a_body_that_does_not_come_gives_its_place_away(
    api: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "BODY_SECONDS", 0.1)

    async def body() -> AsyncIterator[bytes]:
        yield b"{}\n"
        await asyncio.Event().wait()

    refused = problem(await api.post("/users/import", content=body(), headers=HEADERS), 408, "request-timeout")

    assert "within 0.1 s" in refused["detail"]
    assert not app.state.resources.imports.places.bodies


@pytest.mark.parametrize("key", ["a", "x" * 256])
async def test_an_idempotency_key_says_nothing_and_nothing_of_the_body_is_read_for_it(app: FastAPI, key: str) -> None:
    """It used to be read for the key, ahead of its place, and was then waited for a second time."""
    more = f"Connection: close\r\nIdempotency-Key: {key}\r\n".encode()
    async with app.router.lifespan_context(app), listening(app) as listener:
        answer = await asyncio.wait_for(listener.answer_to(request_of(body_of([line("ann")]), "ann", more)), 30)

    assert answer.status == 200
    assert b'"created":1' in answer.body
