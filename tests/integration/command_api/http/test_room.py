"""A command API, as it is served, under those who want all of its memory and time."""

import asyncio
from functools import partial

from chassis.settings import PostgresAddress
from tests.integration.command_api.processes import api_process
from tests.unit.chassis.transport.greedy import (
    GET,
    MIB,
    Memory,
    send_endless_heads,
    send_line_ends,
    send_without_a_pause,
)
from tests.unit.chassis.transport.serving import Client

IMPORT = b"POST /users/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"


async def connect(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port))


async def is_served(port: int) -> bool:
    async with await connect(port) as client:
        return (await client.asks(GET)).status == 200


async def test_it_serves_others_and_takes_little_memory_whatever_greedy_clients_send(
    command_database: PostgresAddress,
) -> None:
    async with api_process(command_database, OUTBOX_NOTIFY="false") as api:
        memory, greedy = Memory(api.process.pid), partial(connect, api.port)
        async with memory.watched():
            await send_endless_heads(greedy)
            assert await send_line_ends(greedy, GET.replace(b"GET", b"POST")[:-2]) == 405
            await send_without_a_pause(greedy, partial(is_served, api.port))
        assert memory.grown <= 50 * MIB

        # A whole import is held in memory until it is answered; this one has more lines than one may have.
        assert await send_line_ends(greedy, IMPORT) == 413
        assert await is_served(api.port)
