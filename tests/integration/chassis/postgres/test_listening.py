"""The listener beside the pool: it comes back by itself, and says so once, not once a try."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from chassis.outages import Outage
from chassis.postgres.database import connect, disconnect
from chassis.postgres.listening import MISSED, Listener
from chassis.settings import PostgresAddress
from local_stack.ports import LOCALHOST
from tests.waiting import until

CHANNEL = "things_moved"
APPLICATION = "listening"


@pytest.fixture
def told() -> list[str]:
    return []


def listener(address: PostgresAddress, told: list[str]) -> Listener:
    outage = Outage(structlog.get_logger("test"), "listening.interrupted", "listening.resumed")
    return Listener(address, {CHANNEL: told.append}, application=APPLICATION, outage=outage)


def events(lines: list[MutableMapping[str, Any]]) -> list[str]:
    return [line["event"] for line in lines]


async def test_what_was_missed_is_told_of_and_the_interruption_is_one_line(
    query_database: PostgresAddress, told: list[str]
) -> None:
    server = await connect(query_database, application="test")

    async def heard(payload: str) -> bool:
        await server.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)
        return payload in told

    # How often: what was sent before an interruption may still arrive after it, so what is told has no order.
    async def told_of_missing(times: int) -> bool:
        return told.count(MISSED) == times

    with capture_logs() as lines:
        async with listener(query_database, told).listen():
            await until(lambda: heard("first"), within=5, what="a notification")
            await until(lambda: told_of_missing(1), within=5, what="what came before it may be missing")
            await server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1"
                " AND datname = current_database()",
                APPLICATION,
            )
            await until(lambda: heard("second"), within=5, what="a notification on a new connection")
            await until(lambda: told_of_missing(2), within=5, what="what came meanwhile may be missing")

    await disconnect(server)
    assert events(lines) == ["listening.interrupted", "listening.resumed"]


async def test_however_often_it_tries_a_server_that_is_down_is_one_line(
    query_database: PostgresAddress, told: list[str]
) -> None:
    with capture_logs() as lines:
        async with (
            slamming_door() as (port, tries),
            listener(replace(query_database, server=LOCALHOST, port=port), told).listen(),
        ):
            await until(lambda: so_many(tries, 4), within=10, what="four tries")

    assert events(lines) == ["listening.interrupted"]
    assert not told


async def so_many(tries: list[None], number: int) -> bool:
    return len(tries) >= number


@asynccontextmanager
async def slamming_door() -> AsyncIterator[tuple[int, list[None]]]:
    """A port that hangs up on everybody; counts them."""
    tries: list[None] = []

    async def slam(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(None)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(slam, LOCALHOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1], tries
