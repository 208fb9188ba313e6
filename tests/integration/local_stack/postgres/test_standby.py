"""A standby that follows, and takes over without a loss."""

from pathlib import Path

import asyncpg
import pytest

from local_stack.postgres.server import PostgresServer
from local_stack.postgres.standby import PostgresStandby
from tests.waiting import until


async def test_a_promoted_standby_has_what_its_primary_acknowledged(folder: Path) -> None:
    async with (
        PostgresServer(folder / "primary", durable=False) as primary,
        PostgresStandby(folder / "standby", primary, durable=False) as standby,
    ):
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await standby.execute("CREATE TABLE refused ()")
        await standby.follow()
        await until(standby.is_followed, within=10, what="commits to wait for the standby")

        await primary.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        await primary.kill()
        await standby.promote()

        assert await standby.execute("UPDATE kept SET answer = answer + 1 RETURNING answer") == 43
