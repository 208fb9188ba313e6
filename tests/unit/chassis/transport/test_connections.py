"""Deadlines, rates and room: who takes too much ends, and whom that leaves alone."""

import asyncio
from collections.abc import AsyncIterator, Iterator, MutableMapping
from functools import partial
from typing import Any

import pytest
import structlog
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from chassis.http.transport import connection, connections, limits
from chassis.http.transport.client import Client
from chassis.http.transport.client import client as sender
from chassis.http.transport.connection import HttpConnection
from chassis.http.transport.connections import QUIET_SECONDS, Refusals
from chassis.http.transport.limits import BUFFERED_BYTES, RATE_SECONDS, Pace
from tests.unit.chassis.transport.serving import PATIENCE_SECONDS, Listener, echo, listening
from tests.waiting import until

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
LONG = 3600.0


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.01)


@pytest.fixture
def judges_soon(monkeypatch: pytest.MonkeyPatch, looks_often: None) -> None:
    """A rate is judged over five looks."""
    monkeypatch.setattr(limits, "RATE_SECONDS", 5)


async def test_a_client_that_says_nothing_is_left(looks_often: None) -> None:
    async with listening(head_seconds=0.05) as listener, await listener.connect() as client:
        assert await client.is_over()


async def test_a_head_that_does_not_end_is_answered_with_a_problem(looks_often: None) -> None:
    async with listening(head_seconds=0.05) as listener, await listener.connect() as client:
        answer = await client.asks(GET[:-2])

        assert (answer.status, answer.problem) == (408, "request-timeout")
        assert await client.is_over()


async def test_the_deadline_of_a_head_is_not_that_of_the_pause_before_it(looks_often: None) -> None:
    async with listening(head_seconds=0.05, keep_alive_seconds=LONG) as listener, await listener.connect() as client:
        await client.asks(GET)
        answer = await client.asks(GET[:1])

        assert (answer.status, answer.problem) == (408, "request-timeout")


async def test_a_connection_is_kept_for_the_next_request_and_closed_after_its_time(looks_often: None) -> None:
    async with listening(head_seconds=LONG, keep_alive_seconds=0.05) as listener, await listener.connect() as client:
        answers = [await client.asks(GET), await client.asks(GET)]

        assert [answer.status for answer in answers] == [200, 200]
        assert await client.is_over()


async def test_the_end_of_a_line_after_a_body_begins_no_request(looks_often: None) -> None:
    async with listening(head_seconds=LONG, keep_alive_seconds=0.05) as listener, await listener.connect() as client:
        await client.asks(POST + b"0123456789\r\n")

        assert await client.is_over(), "as one that is idle"


async def test_a_body_that_stands_still_is_answered_with_a_problem(judges_soon: None) -> None:
    async with listening() as listener, await listener.connect() as client:
        answer = await client.asks(POST + b"half")

        assert (answer.status, answer.problem) == (408, "request-timeout")
        assert "100 bytes a second" in answer.document["detail"]
        assert await client.is_over()


async def test_a_client_that_awaits_a_go_ahead_is_not_too_slow(judges_soon: None) -> None:
    may_read = asyncio.Event()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/late":
            await may_read.wait()
        await echo(scope, receive, send)

    async with listening(late) as listener, await listener.connect() as client:
        await client.send(POST.replace(b"/a", b"/late").replace(b"Content", b"Expect: 100-continue\r\nContent"))
        assert (await listener.answer_to(POST + b"half")).status == 408, "who is waited for meanwhile is too slow"
        may_read.set()
        told = await client.reader.readuntil(b"\r\n\r\n")
        answer = await client.asks(b"0123456789")

    assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.document["body"] == "0123456789"


async def test_a_body_is_not_judged_by_the_one_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", LONG)
    monkeypatch.setattr(limits, "RATE_SECONDS", 5)
    body = b"x" * 1000
    async with listening() as listener, await listener.connect() as client:
        await client.send(POST.replace(b"10", b"1001") + body)
        connection = await has_received(listener, len(body))
        for _ in range(5):
            connection.look(0.0)
        await client.asks(b"x")
        await client.send(POST + b"half")
        await has_received(listener, len(b"half"))
        connection.look(0.0)

        assert (await client.asks(b"halves")).status == 200


async def has_received(listener: Listener, size: int) -> HttpConnection:
    async def received() -> list[HttpConnection]:
        return [one for one in listener.state.connections if isinstance(one, HttpConnection) and one._received == size]

    [connection] = await until(received, within=PATIENCE_SECONDS, what=f"{size} bytes of a body have come")
    return connection


async def test_a_reader_that_does_not_read_is_cut_off(judges_soon: None) -> None:
    async def much(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(b"x" * (32 * 1024 * 1024))(scope, receive, send)

    async with listening(much) as listener, await listener.connect(receive_buffer=4096) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined] # of reading transports
        await client.send(GET)
        await listener.has_open(1)

        await listener.has_open(0)


def test_a_rate_is_one_over_any_window() -> None:
    pace = Pace(100)
    evenly = [pace.is_kept(100 * second) for second in range(RATE_SECONDS + 10)]
    then_not = pace.is_kept(100 * (RATE_SECONDS + 9))

    assert all(evenly)
    assert not then_not


def test_nothing_is_judged_before_a_window_has_passed() -> None:
    pace = Pace(100)

    assert [pace.is_kept(0) for _ in range(RATE_SECONDS + 1)] == [True] * RATE_SECONDS + [False]


async def test_the_longest_idle_connection_makes_room() -> None:
    async with listening(connections=2) as listener, await listener.connect() as first:
        await first.asks(GET)
        async with await listener.connect() as second, await listener.connect() as third:
            assert await first.is_over()
            await third.asks(GET)
            async with await listener.connect() as fourth:
                assert await second.is_over(), "it was silent for longer than the third has been idle"
                assert [(await client.asks(GET)).status for client in (third, fourth)] == [200, 200]


async def test_where_all_connections_are_at_work_a_new_one_is_told_so() -> None:
    may_answer = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await may_answer.wait()
        await echo(scope, receive, send)

    async with listening(slow, connections=1) as listener, await listener.connect() as busy:
        await busy.send(GET)
        await is_read(listener)
        async with await listener.connect() as late:
            refused = await late.answer()
            assert await late.is_over()
        may_answer.set()
        served = await busy.answer()

    assert (refused.status, refused.problem, refused.headers["retry-after"]) == (503, "unavailable", "1")
    assert served.status == 200


async def test_of_bodies_on_their_way_the_one_that_stood_still_for_longest_makes_room() -> None:
    async with listening(connections=2) as listener, await listener.connect() as first:
        await first.send(POST + b"0")
        await has_received(listener, 1)
        async with await listener.connect() as second:
            await second.send(POST + b"01")
            await has_received(listener, 2)
            await first.send(b"12")
            await has_received(listener, 3)
            async with await listener.connect() as third:
                assert (await third.asks(GET)).status == 200
                assert await second.is_over()
                assert (await first.asks(b"3456789")).document["body"] == "0123456789"


async def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    at_once, most = 0, 0

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(at_once, most)
        await asyncio.sleep(0)
        await echo(scope, receive, send)
        at_once -= 1

    async with listening(counting) as listener, await listener.connect() as client:
        requests = [b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nb" % number for number in range(300)]
        sending = asyncio.create_task(client.send(b"".join(requests)))
        answers = [await client.answer() for _ in requests]
        await sending

    assert [answer.document["path"] for answer in answers] == [f"/{number}" for number in range(300)]
    assert most == 1


async def test_a_client_that_left_does_not_wait_any_more(looks_often: None) -> None:
    waiting: list[Client] = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        waiting.append(sender.get())
        while (await receive())["type"] != "http.disconnect":
            pass

    async with listening(slow) as listener:
        async with await listener.connect() as client:
            await client.send(GET)
            client.writer.close()
        await listener.has_open(0)

    assert [client.waits for client in waiting] == [False]


async def test_a_client_that_only_stopped_sending_is_looked_for_and_gets_its_answer_whole(looks_often: None) -> None:
    may_answer = asyncio.Event()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await may_answer.wait()
        assert sender.get().waits
        await echo(scope, receive, send)

    async with listening(late) as listener, await listener.connect() as client:
        await client.send(GET)
        client.stop_sending()
        ahead = await asyncio.wait_for(client.reader.readexactly(3), PATIENCE_SECONDS)
        may_answer.set()

        assert (ahead + await client.rest()).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_work_that_has_not_begun_is_given_up_when_the_process_ends(
    looks_often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STOPPING_SECONDS", 0.0)

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        async def is_given_up() -> bool:
            return not sender.get().waits

        await until(is_given_up, within=PATIENCE_SECONDS, what="the process has no time left for it")
        await echo(scope, receive, send)

    async with listening(waiting) as listener, await listener.connect() as client:
        await client.send(GET)
        await is_read(listener)
        stop(listener)

        assert (await client.answer()).status == 200


async def test_a_client_that_has_finished_sending_gets_every_answer() -> None:
    async with listening() as listener, await listener.connect() as client:
        await client.send(GET + POST + b"0123456789")
        client.stop_sending()
        answers = [await client.answer(), await client.answer()]

        assert [answer.document["method"] for answer in answers] == ["GET", "POST"]
        assert await client.is_over()


@pytest.mark.parametrize(
    "half", [GET[:-2], POST + b"half", POST.replace(b"Content-Length: 10", b"Transfer-Encoding: chunked")]
)
async def test_a_request_that_breaks_off_is_answered_with_a_problem(half: bytes) -> None:
    async with listening() as listener, await listener.connect() as client:
        await client.send(half)
        client.stop_sending()
        answer = await client.answer()

        assert (answer.status, answer.problem) == (400, "malformed-request")
        assert await client.is_over()


async def refuse_unread(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("no", 401)(scope, receive, send)


async def test_an_answer_before_the_end_of_a_long_body_is_read_by_its_sender() -> None:
    body = b"x" * (16 * 1024 * 1024)
    async with listening(refuse_unread) as listener, await listener.connect() as client:
        await client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        answer = await client.answer()

        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert await client.is_over()


async def test_a_request_can_follow_a_short_body_that_nobody_read() -> None:
    async with listening(refuse_unread) as listener, await listener.connect() as client:
        first = await client.asks(POST + b"half")
        second = await client.asks(b"halves" + GET)

    assert [first.status, second.status] == [401, 401]
    assert "connection" not in first.headers


async def test_a_body_whose_reading_had_paused_before_the_answer_is_passed_over() -> None:
    may_answer = asyncio.Event()

    async def refuse_late(scope: Scope, receive: Receive, send: Send) -> None:
        await may_answer.wait()
        await refuse_unread(scope, receive, send)

    async with listening(refuse_late) as listener, await listener.connect() as client:
        most, rest = b"x" * (BUFFERED_BYTES + 1), b"x" * BUFFERED_BYTES
        await client.send(POST.replace(b"10", b"%d" % len(most + rest)) + most)
        await until(partial(has_paused, listener), within=PATIENCE_SECONDS, what="reading has paused")
        may_answer.set()
        first = await client.answer()
        await client.send(rest[1:])
        second = await client.asks(rest[:1] + GET)
        client.stop_sending()

        assert [first.status, second.status] == [401, 401]
        assert await client.is_over()


async def has_paused(listener: Listener) -> bool:
    return any(not connection.transport.is_reading() for connection in listener.state.connections)


async def test_who_closes_after_an_answer_instead_of_sending_the_rest_is_not_refused(logs: list[Any]) -> None:
    async with listening(refuse_unread) as listener, await listener.connect() as client:
        await client.asks(POST + b"half")
        client.stop_sending()

        assert await client.is_over()
    assert logs == []


async def test_who_owes_the_rest_of_an_answered_request_makes_room() -> None:
    async with listening(refuse_unread, connections=1) as listener, await listener.connect() as owing:
        await owing.asks(POST + b"half")
        async with await listener.connect() as other:
            assert (await other.asks(GET)).status == 401
        assert await owing.is_over()


async def test_a_body_that_is_half_here_when_the_process_stops_is_told_so(
    looks_often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.http.transport.connection.STOPPING_SECONDS", 0.05)
    async with listening() as listener, await listener.connect() as client:
        await client.send(POST + b"half")
        await is_read(listener)
        stop(listener)
        answer = await client.answer()

        assert (answer.status, answer.problem) == (503, "unavailable")
        assert await client.is_over()


async def test_an_answer_that_does_not_come_before_the_end_of_the_process_is_a_problem() -> None:
    async def hangs(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async with listening(hangs) as listener, await listener.connect() as client:
        await client.send(GET)
        await is_read(listener)
        stop(listener)
        for task in listener.state.tasks:
            task.cancel()
        answer = await client.answer()

    assert (answer.status, answer.problem) == (503, "unavailable")


def stop(listener: Listener) -> None:
    for served in list(listener.state.connections):
        served.shutdown()


async def is_read(listener: Listener) -> None:
    async def under_way() -> bool:
        return bool(listener.state.tasks)

    await until(under_way, within=PATIENCE_SECONDS, what="a request is under way")


async def test_who_leaves_is_told_to_the_app_and_not_to_the_log(logs: list[Any]) -> None:
    has_left = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async def streams(scope: Scope, receive: Receive, send: Send) -> None:
        await StreamingResponse(endless())(scope, receive, send)
        has_left.set()

    async with listening(streams) as listener:
        async with await listener.connect() as client:
            await client.send(GET)
            await client.reader.readexactly(1)
        await asyncio.wait_for(has_left.wait(), PATIENCE_SECONDS)

    assert logs == []


async def test_what_goes_wrong_in_an_app_is_logged_once_and_answered_with_a_problem(logs: list[Any]) -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    async with listening(fails) as listener:
        answer = await listener.answer_to(GET)

    assert (answer.status, answer.problem) == (500, "internal-error")
    assert [entry["event"] for entry in logs] == ["http.unexpected_error"]


async def test_an_answer_that_cannot_be_finished_is_broken_off(logs: list[Any]) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield b"begun"
        raise ZeroDivisionError

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await StreamingResponse(breaks())(scope, receive, send)

    async with listening(fails) as listener, await listener.connect() as client:
        await client.send(GET)
        came = await client.rest()

    assert came.endswith(b"5\r\nbegun\r\n"), "without the chunk that ends an answer"
    assert [entry["event"] for entry in logs] == ["http.unexpected_error"]


async def test_a_value_with_the_end_of_a_line_never_leaves() -> None:
    async def splits(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"location", b"/a\r\nset-cookie: b"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body"})

    async with listening(splits) as listener, await listener.connect() as client:
        await client.send(GET)

        assert b"set-cookie" not in await client.rest()


def test_a_flood_of_refusals_is_two_lines(logs: list[Any]) -> None:
    refusals = Refusals()
    for second in range(100):
        refusals.note("head", float(second))
        refusals.look(float(second))
    refusals.look(99 + QUIET_SECONDS)

    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("http.refusing", "head"),
        ("http.refused", "head"),
    ]
    assert logs[1]["times"] == 100
    assert not refusals


@pytest.mark.parametrize("length", [b"2", b"6"], ids=["longer than it said", "an error"])
async def test_an_answer_that_fails_before_anything_was_sent_is_an_error_and_not_a_silent_end(length: bytes) -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        if length == b"6":
            raise LookupError
        await send({"type": "http.response.body", "body": b"longer"})

    async with listening(failing) as listener, await listener.connect() as client:
        answer, is_over = await client.asks(GET), await client.is_over()

    assert (answer.status, answer.headers["connection"], is_over) == (500, "close", True)
    assert answer.document["request_id"] == answer.headers["x-request-id"]
