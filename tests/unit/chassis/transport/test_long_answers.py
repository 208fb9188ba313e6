"""An answer without an end knows of its connection: it cuts off who does not read, and hears that the process stops."""

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest
from starlette.types import Receive, Scope, Send

from chassis.http.transport.exchange import LONG_ANSWER, LongAnswer
from chassis.http.transport.outlet import Outlet
from tests.unit.chassis.transport.serving import PATIENCE_SECONDS, echo, listening
from tests.waiting import until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": []}
PART = {"type": "http.response.body", "body": b"x" * 65536, "more_body": True}
END = {"type": "http.response.body", "body": b""}


async def test_who_leaves_too_much_unread_is_cut_off_and_nobody_waits_for_it() -> None:
    is_over = asyncio.Event()

    async def floods(scope: Scope, receive: Receive, send: Send) -> None:
        connection: LongAnswer = scope[LONG_ANSWER]
        await send(START)
        connection.cut_off_above(1024 * 1024)
        leaving = asyncio.ensure_future(receive())
        while not leaving.done():
            await send(PART)
            await asyncio.sleep(0)
            # That of the request itself comes first.
            if leaving.done() and leaving.result()["type"] == "http.request":
                leaving = asyncio.ensure_future(receive())
        is_over.set()

    async with listening(floods) as listener, await listener.connect(receive_buffer=4096) as client:
        await client.send(GET)

        await asyncio.wait_for(is_over.wait(), 60)
        await listener.has_open(0)


async def test_who_is_cut_off_gets_nothing_of_what_our_system_holds() -> None:
    left = list[int]()

    async def tells(scope: Scope, receive: Receive, send: Send) -> None:
        connection: LongAnswer = scope[LONG_ANSWER]
        await send(START)
        await send(PART)
        left.append(connection.unread())
        connection.cut_off()
        await send(END)

    async with listening(tells) as listener, await listener.connect(receive_buffer=4096) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined] # of reading transports
        await client.send(GET)
        await listener.has_open(0)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        with pytest.raises(ConnectionResetError):
            await client.reader.read()

    assert 0 < left[0] <= 66_000


async def test_an_answer_that_was_taken_leaves_nothing_unread() -> None:
    async def tells(scope: Scope, receive: Receive, send: Send) -> None:
        connection: LongAnswer = scope[LONG_ANSWER]
        await send(START)
        connection.cut_off_above(64 * 1024 * 1024)
        await send(PART)

        async def is_taken() -> bool:
            return not connection.unread()

        await until(is_taken, within=30, what="the client's system has it")
        await send(END)

    async with listening(tells) as listener, await listener.connect() as client:
        answer = await client.asks(GET)

    assert answer.body.count(b"x" * 65536) == 1


async def test_who_reads_gets_all_of_it_however_much_that_is() -> None:
    parts = 200

    async def tells(scope: Scope, receive: Receive, send: Send) -> None:
        connection: LongAnswer = scope[LONG_ANSWER]
        await send(START)
        connection.cut_off_above(64 * 1024 * 1024)
        for _ in range(parts):
            await send(PART)
        await send(END)

    async with listening(tells) as listener, await listener.connect() as client:
        answer = await client.asks(GET)

        assert answer.body.count(b"x" * 65536) == parts
        assert await client.is_over()


async def test_an_answer_hears_that_the_process_is_told_to_stop() -> None:
    began, stopped = asyncio.Event(), asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        connection: LongAnswer = scope[LONG_ANSWER]
        connection.on_stop = stopped.set
        began.set()
        await stopped.wait()
        await send({**START, "headers": [(b"content-length", b"0")]})
        await send(END)

    async with listening(waits) as listener, await listener.connect() as client:
        await client.send(GET)
        await asyncio.wait_for(began.wait(), 60)
        for connection in list(listener.state.connections):
            connection.shutdown()

        assert (await client.answer()).status == 200
        assert await client.is_over()


class Held:
    """Something that an app keeps with its request."""


async def test_what_a_request_held_goes_with_its_answer_and_does_not_wait_for_the_collector() -> None:
    held: weakref.WeakSet[Held] = weakref.WeakSet()

    async def holds(scope: Scope, receive: Receive, send: Send) -> None:
        scope["held"] = Held()
        held.add(scope["held"])
        await send({**START, "headers": [(b"content-length", b"0")]})
        await send(END)

    async def is_gone() -> bool:
        return not held

    gc.disable()
    try:
        async with listening(holds) as listener, await listener.connect() as client:
            assert (await client.asks(GET)).status == 200
            await until(is_gone, within=60, what="what it held is gone")
    finally:
        gc.enable()


async def test_an_answer_that_asks_later_sees_that_the_process_was_told_to_stop() -> None:
    began, goes_on, found = asyncio.Event(), asyncio.Event(), list[bool]()

    async def looks_later(scope: Scope, receive: Receive, send: Send) -> None:
        connection: LongAnswer = scope[LONG_ANSWER]
        found.append(connection.is_stopping)
        began.set()
        await goes_on.wait()
        found.append(connection.is_stopping)
        await send({**START, "headers": [(b"content-length", b"0")]})
        await send(END)

    async with listening(looks_later) as listener, await listener.connect() as client:
        await client.send(GET)
        await asyncio.wait_for(began.wait(), 60)
        for connection in list(listener.state.connections):
            connection.shutdown()
        goes_on.set()

        assert (await client.answer()).status == 200
    assert found == [False, True]


async def test_an_answer_under_way_hears_that_its_client_sends_no_more() -> None:
    stopped = asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        connection: LongAnswer = scope[LONG_ANSWER]
        connection.on_stop = stopped.set
        await send(START)
        await stopped.wait()
        await send(END)

    async with listening(waits) as listener, await listener.connect() as client:
        await client.send(GET)
        await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 60)
        client.stop_sending()

        assert await client.rest() == b"0\r\n\r\n"


async def test_a_stream_begins_ahead_of_its_first_bytes_and_what_has_a_length_is_one_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goes_on = asyncio.Event()
    writes: list[bytes] = []

    async def streams(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await goes_on.wait()
        await send(END)

    def noting(outlet: Outlet, data: bytes, write: Callable[[Outlet, bytes], None] = Outlet.write) -> None:
        writes.append(data)
        write(outlet, data)

    monkeypatch.setattr(Outlet, "write", noting)
    async with listening(echo) as listener:
        answer = await listener.answer_to(GET)
        assert len(writes) == 1
        assert writes[0].endswith(b"\r\n\r\n" + answer.body)
    async with listening(streams) as listener, await listener.connect() as client:
        await client.send(GET)
        head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        assert head.startswith(b"HTTP/1.1 200")
        goes_on.set()
        assert (await asyncio.wait_for(client.reader.readuntil(b"0\r\n\r\n"), PATIENCE_SECONDS)) == b"0\r\n\r\n"
