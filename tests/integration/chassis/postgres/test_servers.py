"""Of several servers that one is found which a process needs, whatever becomes of the others."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from chassis.postgres.database import connect, disconnect
from chassis.postgres.servers import HEAD_START_SECONDS, PREFERENCE_SECONDS, served_last
from chassis.settings import PostgresAddress
from tests.servers.private_servers import nowhere
from tests.servers.standbys import Pair, pair

#: Beside other tests everything takes its time.
SLACK_SECONDS = 1.5


async def served_by(address: PostgresAddress) -> int:
    """The port of the server that a new connection leads to."""
    connection = await connect(address, application="test")
    try:
        port = await connection.fetchval("SELECT current_setting('port')::int")
        assert port == served_last(address).port
        return int(port)
    finally:
        await disconnect(connection)


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Pair]:
    async with pair(tmp_path, lambda _: None) as both:
        yield both


async def test_each_finds_the_server_that_it_needs_before_and_after_a_failover(servers: Pair) -> None:
    here, there = servers.primary.port, servers.standby.port
    writes = servers.address
    # The standby is named first, so that whoever writes must go on.
    writes = replace(writes, server=",".join(reversed(writes.server.split(","))))
    prefers = replace(writes, session_attributes="prefer-standby")
    alone = replace(servers.database, port=there)

    assert await served_by(writes) == here
    assert await served_by(prefers) == there
    assert await served_by(replace(writes, session_attributes="any")) == there
    with pytest.raises(asyncpg.TargetServerAttributeNotMatched):
        await connect(alone, application="test")

    await servers.fail_over()
    assert [await served_by(each) for each in (writes, prefers, alone)] == [there] * 3


async def test_a_frozen_server_costs_one_connection_a_moment(servers: Pair) -> None:
    prefers = replace(servers.address, session_attributes="prefer-standby")
    reads = replace(servers.address, session_attributes="any")
    assert await served_by(reads) == servers.primary.port
    assert await served_by(prefers) == servers.standby.port

    servers.primary.pause()
    try:
        began = time.monotonic()
        assert await served_by(reads) == servers.standby.port
        assert HEAD_START_SECONDS <= time.monotonic() - began < HEAD_START_SECONDS + SLACK_SECONDS
        assert [await served_by(each) for each in (reads, prefers)] == [servers.standby.port] * 2
    finally:
        servers.primary.resume()

    servers.standby.pause()
    try:
        began = time.monotonic()
        assert await served_by(prefers) == servers.primary.port
        assert PREFERENCE_SECONDS <= time.monotonic() - began < PREFERENCE_SECONDS + SLACK_SECONDS
        # Nobody waits for the standby again so soon.
        again = asyncio.create_task(served_by(prefers))
        assert await asyncio.wait_for(again, PREFERENCE_SECONDS) == servers.primary.port
    finally:
        servers.standby.resume()


async def test_of_several_errors_the_one_that_says_most_is_raised(servers: Pair) -> None:
    away, away_too = nowhere(), nowhere()
    unreachable = replace(away, server=f"127.0.0.1:{away.port},127.0.0.1:{away_too.port}")
    with pytest.raises(OSError, match=f"{away.port}|{away_too.port}"):
        await connect(unreachable, application="test")

    unknown = replace(servers.address, user="nobody_known", server=f"127.0.0.1:{away.port},{servers.address.server}")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(unknown, application="test")
