"""PostgreSQL fails over to its synchronous standby while commands flow: nothing acknowledged is lost."""

import asyncio
import time
from pathlib import Path

import httpx

from command_api.app import create_app
from tests.databases import prepare_command
from tests.integration.command_api.conftest import make_settings, registration, serving
from tests.servers.standbys import Pair, pair
from tests.waiting import until

#: For the promotion too, which takes under a second here.
UNAVAILABLE_SECONDS = 10.0


async def test_commands_go_on_at_the_standby_which_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    refused: list[float] = []

    async with pair(tmp_path, prepare_command, synchronous=True) as servers:
        async with serving(create_app(make_settings(servers.address))) as api:
            await a_commit_that_the_standby_has_not_is_not_acknowledged(api, servers)
            flowing = asyncio.create_task(flow(api, acknowledged, refused))
            await until(lambda: several(acknowledged, 20), within=30, what="commands to flow")
            await servers.fail_over()
            before = len(acknowledged)
            await until(lambda: several(acknowledged, before + 20), within=30, what="commands to flow again")
            flowing.cancel()
            await asyncio.wait([flowing])
            kept = await servers.standby.execute(
                "SELECT array_agg(id::text) FROM users", database=servers.database.database
            )
            assert isinstance(kept, list)

        assert acknowledged - set(kept) == set()
        assert refused, "the failover was felt"
        assert refused[-1] - refused[0] < UNAVAILABLE_SECONDS


async def flow(api: httpx.AsyncClient, acknowledged: set[str], refused: list[float]) -> None:
    """Register one user after the other, and note what is answered."""
    number = 0
    while True:
        number += 1
        answer = await api.post("/users", json=registration(f"user{number}"))
        if answer.status_code == 201:
            acknowledged.add(answer.json()["id"])
        else:
            assert answer.status_code == 503, answer.text
            refused.append(time.monotonic())


async def several(acknowledged: set[str], count: int) -> bool:
    return len(acknowledged) >= count


async def a_commit_that_the_standby_has_not_is_not_acknowledged(api: httpx.AsyncClient, servers: Pair) -> None:
    """Who gives up waiting for such a commit must not cancel it: PostgreSQL would end the wait, and show it to all."""
    servers.standby.pause()
    try:
        answer = await api.post("/users", json=registration("ann"))
        shown = await servers.primary.execute("SELECT count(*) FROM users", database=servers.database.database)
    finally:
        servers.standby.resume()
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/outcome-unknown")
    assert shown == 0
