"""A client with two addresses goes to the other where nobody answered, and calls everything else a failure."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from local_stack.ports import LOCALHOST, free_port
from tests.upgrade.clients import Client, FailedError, KnownUser, Tally, Traffic, Twice

REFUSING = b""
ANSWER = b'HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{"version":1}'
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
BREAKING_OFF = ANSWER[:-3]
CLOSING = None


@asynccontextmanager
async def served(answer: bytes | None) -> AsyncIterator[str]:
    """An address whose server gives every request this answer and closes; nobody listens where it is REFUSING."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer or b"")
        writer.close()
        await writer.wait_closed()

    if answer == REFUSING:
        yield f"http://{LOCALHOST}:{free_port()}"
        return
    async with await asyncio.start_server(handle, LOCALHOST, 0) as server:
        yield f"http://{LOCALHOST}:{server.sockets[0].getsockname()[1]}"


async def asked(first: bytes | None, second: bytes | None) -> Tally:
    """What is counted of one request to an API at two addresses."""
    async with served(first) as one, served(second) as other:
        traffic = Traffic([one, other], [one, other], {}, clients=0)
        traffic.stretch("test")
        client = Twice(traffic, [one, other], 0, changes=False)
        try:
            await client.ask("GET", "/users/a", 200)
        except FailedError:
            assert traffic.failed == 1
        finally:
            await client.close()
        return traffic.tally


@pytest.mark.parametrize("first", [REFUSING, CLOSING])
async def test_where_nobody_answers_the_other_is_asked(first: bytes | None) -> None:
    counted = await asked(first, ANSWER)

    assert (counted.queries, counted.failed, counted.moved) == (1, 0, 1)


async def test_who_answers_is_asked_alone() -> None:
    counted = await asked(ANSWER, BUSY)

    assert (counted.queries, counted.failed, counted.moved) == (1, 0, 0)


@pytest.mark.parametrize("first", [BUSY, BREAKING_OFF])
async def test_an_answer_that_is_none_is_a_failure_whoever_else_is_there(first: bytes) -> None:
    counted = await asked(first, ANSWER)

    assert (counted.requests, counted.failed, counted.moved) == (1, 1, 0)
    assert counted.failures[0].startswith("GET /users/a: ")


async def test_where_neither_answers_it_is_a_failure() -> None:
    assert (await asked(REFUSING, CLOSING)).failed == 1


async def test_a_read_that_is_older_than_what_was_acknowledged_is_a_failure() -> None:
    async with served(ANSWER) as url:
        traffic = Traffic([url, url], [url, url], {}, clients=0)
        traffic.stretch("test")
        commands, queries = (Twice(traffic, [url, url], 0, changes=changes) for changes in (True, False))
        client = Client(commands, queries, 0)
        client.users = [KnownUser("a", "a@example.com", version=2, token="of version 2")]
        await client.look_back()
        await client.close()

    assert traffic.failed == 1
    assert "version 1, not 2" in traffic.tally.failures[0]
