"""How a connection ends that has more than one thing on its way: requests behind others, unread ones, and a stop."""

import asyncio

import pytest
from starlette.types import Receive, Scope, Send

from chassis.http.transport import connection, connections
from chassis.http.transport.client import client as sender
from chassis.http.transport.connection import HttpConnection
from chassis.http.transport.connections import BEGUN_AT_ONCE
from chassis.http.transport.limits import BUFFERED_BYTES
from tests.unit.chassis.transport.serving import PATIENCE_SECONDS, Client, Listener, echo, listening
from tests.waiting import until

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.02)


def served_by(listener: Listener) -> list[HttpConnection]:
    return [one for one in listener.state.connections if isinstance(one, HttpConnection)]


async def test_work_whose_body_came_whole_after_the_stop_is_given_up_as_any_other(
    looks_often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STOPPING_SECONDS", 0.5)
    was_given_up = asyncio.Event()

    async def works(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

        async def is_given_up() -> bool:
            return not sender.get().waits

        await until(is_given_up, within=20, what="the process has no time left for it")
        was_given_up.set()
        await echo(scope, receive, send)

    async with listening(works) as listener, await listener.connect() as client:
        await client.send(POST + b"half")

        async def is_under_way() -> bool:
            return bool(listener.state.tasks)

        await until(is_under_way, within=PATIENCE_SECONDS, what="the request is under way")
        [served] = served_by(listener)
        served.shutdown()
        await client.send(b" whole")
        await asyncio.wait_for(was_given_up.wait(), PATIENCE_SECONDS)


async def unread_one(listener: Listener, request: bytes = GET) -> tuple[Client, HttpConnection]:
    """A client whose request waits to be read, as so many came before it in the same turn of the loop."""
    others = listener.connections._others
    others.begun = BEGUN_AT_ONCE  # and nothing begins a next turn
    client = await listener.connect()
    client.writer.write(request)

    async def waits() -> bool:
        return bool(others.unread)

    await until(waits, within=PATIENCE_SECONDS, what="the request waits to be read")
    [served] = served_by(listener)
    return client, served


async def test_what_comes_while_a_request_waits_to_be_read_is_bounded_and_kept() -> None:
    body = b"x" * (64 * BUFFERED_BYTES)
    head = b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with listening() as listener:
        client, served = await unread_one(listener, head + body)
        async with client:

            async def is_paused() -> bool:
                return served._is_paused

            await until(is_paused, within=PATIENCE_SECONDS, what="reading pauses")
            held = len(served._data)
            listener.connections._next_turn()
            answer = await client.answer()

    assert BUFFERED_BYTES < held < len(body) / 2
    assert (answer.status, len(answer.document["body"])) == (200, len(body))


async def test_a_request_that_waits_to_be_read_is_read_by_its_deadline(looks_often: None) -> None:
    async with listening(head_seconds=0.3) as listener:
        client, _ = await unread_one(listener)
        async with client:
            assert (await client.answer()).status == 200


async def test_a_request_that_waits_to_be_read_is_answered_before_the_process_ends() -> None:
    async with listening() as listener:
        client, served = await unread_one(listener)
        async with client:
            served.shutdown()
            answer = await client.answer()

            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert await client.is_over()


async def test_who_makes_room_while_its_request_waits_to_be_read_is_forgotten() -> None:
    async with listening() as listener:
        client, served = await unread_one(listener)
        async with client:
            served.give_way()
            await listener.has_open(0)

            assert not listener.connections._others.unread
            assert await client.is_over()


async def test_what_comes_on_behind_a_refusal_is_read_with_pauses() -> None:
    async with listening() as listener, await listener.connect() as client:
        assert (await client.asks(b"GET / HTTP/3.0\r\n\r\n" + b"x" * BUFFERED_BYTES)).status == 400
        [served] = served_by(listener)
        served.data_received(b"x")
        assert not served.transport.is_reading()

        async def is_read_on() -> bool:
            return served.transport.is_reading()

        await until(is_read_on, within=PATIENCE_SECONDS, what="it is read on")
        client.stop_sending()
        assert await client.is_over()


@pytest.mark.parametrize("half", [GET[:-2], POST + b"half"])
async def test_half_of_a_request_behind_another_is_answered_with_a_problem(half: bytes) -> None:
    async with listening() as listener:
        client, served = await unread_one(listener, GET + half)
        async with client:
            client.stop_sending()

            async def is_told() -> bool:
                return served._is_finished_sending

            await until(is_told, within=PATIENCE_SECONDS, what="the client's end has come")
            listener.connections._next_turn()
            whole = await client.answer()
            listener.connections._next_turn()
            broken = await client.answer()

            assert whole.status == 200
            assert (broken.status, broken.problem) == (400, "malformed-request")
            assert await client.is_over()


@pytest.mark.parametrize("behind", [b"\r\n", b"\r\n" * 1000, b"GET", GET])
async def test_who_left_with_something_behind_its_request_does_not_wait(looks_often: None, behind: bytes) -> None:
    is_found_out = asyncio.Event()

    async def works(scope: Scope, receive: Receive, send: Send) -> None:
        async def has_left() -> bool:
            return not sender.get().waits

        await until(has_left, within=PATIENCE_SECONDS, what="it is found out that the client has left")
        is_found_out.set()

    async with listening(works) as listener:
        async with await listener.connect() as client:
            await client.send(GET + behind)
            client.writer.close()
        await asyncio.wait_for(is_found_out.wait(), PATIENCE_SECONDS)


async def test_ends_of_lines_behind_a_request_do_not_pause_reading_and_begin_no_other() -> None:
    may_answer = asyncio.Event()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await may_answer.wait()
        await echo(scope, receive, send)

    async with listening(late) as listener, await listener.connect() as client:
        await client.send(GET + b"\r\n")

        async def is_under_way() -> bool:
            return bool(listener.state.tasks)

        await until(is_under_way, within=PATIENCE_SECONDS, what="the request is under way")
        [served] = served_by(listener)
        assert not served._is_paused
        client.stop_sending()
        may_answer.set()

        assert (await client.answer()).status == 200
        assert await client.is_over()
