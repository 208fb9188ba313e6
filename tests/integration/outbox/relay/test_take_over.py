"""A standby takes over when the leader dies or hangs, or its host freezes, and a leader that thaws stands by.

The leader is a process of its own, the standby runs here. benchmarks/relay says how fast it is on a calm machine.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from outbox.relay.loop import Relay
from outbox.settings import RelaySettings
from tests.forks import Fork
from tests.integration.outbox.relay_process import relay_process
from tests.integration.outbox.relaying import relaying, until_phase
from tests.integration.outbox.traffic import Connection, append, append_many, consume, until_empty
from tests.servers.refusing_proxy import RefusingProxy
from tests.waiting import until

#: Promised 2 s on a machine with nothing else to do; tests share theirs.
AFTER_KILL_SECONDS = 5
#: Promised; the server takes 6 s of it until it gives the leader up.
AFTER_HANG_SECONDS = 10
#: How a relay that stands by is seen from outside: it asks for the lock again and again.
ASKING = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE application_name LIKE 'muster relay lock%:' || $1::text AND query LIKE '%pg_try_advisory_lock%'
        AND state_change > $2
)
"""


@asynccontextmanager
async def leader_and_standby(
    settings: RelaySettings, connection: Connection, behind: int | None = None
) -> AsyncIterator[tuple[Fork, Relay]]:
    """A leader that has published something, perhaps behind a proxy's port, and a standby."""
    proxied = {"command_postgres_port": behind, "command_postgres_server": "127.0.0.1"} if behind else {}
    async with relay_process(settings.model_copy(update=proxied)) as leader:
        await append(connection, uuid4(), 1)
        await until_empty(connection)
        async with relaying(settings) as standby:
            await until_phase(standby, "standby")
            yield leader, standby


async def test_a_standby_takes_over_when_the_leader_is_killed(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    user = uuid4()
    async with leader_and_standby(relay_settings, connection) as (leader, standby):
        began = time.monotonic()
        leader.kill()
        await append(connection, user, 1)
        await until_empty(connection)
        took = time.monotonic() - began

        assert took < AFTER_KILL_SECONDS
        assert standby.state.phase == "leading"
    assert (await consume(relay_settings)).versions()[str(user)] == [1]


async def test_a_standby_takes_over_when_the_leader_hangs_and_a_proxy_answers_for_it(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    """No connection is closed, and every keepalive answered: only what the leader says itself can tell."""
    user = uuid4()
    async with (
        RefusingProxy(relay_settings.command_database).listening() as proxy,
        leader_and_standby(relay_settings, connection, behind=proxy.address.port) as (leader, standby),
    ):
        leader.send_signal(signal.SIGSTOP)
        await until_stopped(leader.pid)
        began = time.monotonic()
        await append(connection, user, 1)
        await until_empty(connection)
        took = time.monotonic() - began

        assert standby.state.phase == "leading"
        assert 2 < took < AFTER_HANG_SECONDS, "sooner, and the leader did not hang but was dead"
    assert (await consume(relay_settings)).versions()[str(user)] == [1]


async def test_a_leader_that_thaws_in_the_middle_of_its_work_stands_by_and_repeats_nothing(
    connection: Connection, relay_settings: RelaySettings
) -> None:
    """It sleeps until the server has given its lock away by itself, and wakes believing that it leads."""
    users = [uuid4() for _ in range(100)]
    settings = relay_settings.model_copy(update={"relay_page_rows": 50})
    async with leader_and_standby(settings, connection) as (leader, standby):
        await append_many(connection, users, 100)
        await until_fewer(connection, 10_000)
        leader.send_signal(signal.SIGUSR1)
        await until_stopped(leader.pid)
        assert await connection.fetchval("SELECT count(*) FROM outbox") > 0, "there was no work left to repeat"
        await until_phase(standby, "leading")
        woken = await connection.fetchval("SELECT clock_timestamp()")
        leader.send_signal(signal.SIGCONT)
        await until_empty(connection)
        await until_asking(connection, leader.pid, woken)
        await append(connection, users[0], 101)
        await until_empty(connection)

        assert standby.state.phase == "leading"
    versions = (await consume(settings)).versions()
    assert versions.pop(str(users[0])) == list(range(1, 102))
    assert [versions[str(user)] for user in users[1:]] == [list(range(1, 101))] * 99


async def until_fewer(connection: Connection, rows: int) -> None:
    """Wait until the outbox holds fewer rows."""

    async def fewer() -> bool:
        return bool(await connection.fetchval("SELECT count(*) < $1 FROM outbox", rows))

    await until(fewer, within=30, what="the relay to be in the middle of its work")


async def until_asking(connection: Connection, pid: int, since: datetime) -> None:
    """Wait until a relay's process has asked for the lock after `since`: it stands by."""

    async def asked() -> bool:
        return bool(await connection.fetchval(ASKING, str(pid), since))

    await until(asked, within=30, what="the relay that was frozen to stand by")


async def until_stopped(pid: int) -> None:
    """Wait until a process is stopped."""

    async def stopped() -> bool:
        status = await asyncio.to_thread(Path(f"/proc/{pid}/stat").read_text)
        return status.rsplit(")", 1)[1].split()[0] == "T"

    await until(stopped, within=10, what="the process to stop")
