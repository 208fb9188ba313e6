"""The query API on a hot standby: it answers, waits for tokens without notifications, and outlives its primary."""

import asyncio
from dataclasses import replace
from pathlib import Path

from chassis.consistency import ConsistencyToken
from chassis.postgres.database import connect, disconnect
from local_stack.postgres.server import PostgresServer
from query_api.app import create_app
from tests.databases import prepare_query
from tests.integration.query_api.conftest import make_settings, serving
from tests.integration.query_api.read_side import ReadSide, person
from tests.servers.standbys import caught_up, pair
from tests.waiting import until


async def test_a_standby_answers_and_waits_and_outlives_its_primary(tmp_path: Path) -> None:
    ann, bob = person(1), person(2)
    async with pair(tmp_path, prepare_query) as servers:
        writer = await connect(servers.database, application="test")
        read_side = ReadSide(writer)
        await read_side.register(ann)
        await caught_up(servers)
        settings = make_settings(servers.address, QUERY_POSTGRES_TARGET_SESSION_ATTRS="prefer-standby")
        async with serving(create_app(settings)) as api:
            assert await sessions(servers.standby) > 0
            assert await sessions(servers.primary) == 0
            paths = ("/users", f"/users/{ann.id}", f"/users/{ann.id}/timeline", "/stats/signups")
            assert [(await api.get(path)).status_code for path in paths] == [200] * 4

            headers = {"Consistency-Token": ConsistencyToken(bob.id, 1).encode(), "Prefer": "wait=10"}
            waiting = asyncio.create_task(api.get(f"/users/{bob.id}", headers=headers))
            await read_side.register(bob)
            assert (await waiting).status_code == 200
            await disconnect(writer)

            await servers.primary.kill()
            assert [(await api.get(path)).status_code for path in paths] == [200] * 4
            await servers.standby.promote()
            promoted = replace(servers.database, port=servers.standby.port)
            writer = await connect(promoted, application="test")
            assert [(await api.get(path)).status_code for path in paths] == [200] * 4

            async def is_notified() -> bool:
                return bool(await writer.fetchval("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"))

            await until(is_notified, within=15, what="notifications after the promotion")
            await disconnect(writer)


async def sessions(server: PostgresServer) -> int:
    """How many connections the query API has there."""
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'muster-query-api'"
    found = await server.execute(count)
    assert isinstance(found, int)
    return found
