"""Servers that die or hang under the relay: private ones, so that no other test notices."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from chassis.health import NotReadyError
from tests.integration.outbox.outage import Outage
from tests.integration.outbox.private_servers import Private, private_servers
from tests.integration.outbox.relaying import relaying, until_phase
from tests.integration.outbox.settings_file import write_settings
from tests.integration.outbox.traffic import Connection, append, append_many, consume, until_empty
from tests.waiting import until


@pytest.fixture
async def private(server_folder: Path) -> AsyncIterator[Private]:
    """Servers of this test's own."""
    async with private_servers(server_folder) as servers:
        yield servers


async def test_a_broker_that_is_killed_and_comes_back_costs_delay_only(private: Private) -> None:
    users = [uuid4() for _ in range(50)]
    async with private.session() as session, relaying(private.settings):
        await append_many(session, users, 20)
        await private.kafka.kill()
        later = [uuid4() for _ in range(50)]
        await append_many(session, later, 20)
        await private.kafka.start()
        await until_empty(session, within=60)

    expected = {str(user): list(range(1, 21)) for user in users + later}
    assert (await consume(private.settings)).versions() == expected


async def test_ten_seconds_without_a_broker_refuse_no_command_and_lose_no_event(private: Private) -> None:
    outcome = await Outage(private, seconds=10).run()

    assert (outcome.refused, outcome.lost, outcome.repeated) == (0, 0, 0)
    assert outcome.gathered > 500, "commands must have gone on"
    assert outcome.drain_rate >= 5 * outcome.arrival_rate


async def test_an_idle_relay_notices_that_the_broker_is_gone_and_looks_what_hangs_when_it_is_back(
    private: Private,
) -> None:
    """Riding through would leave what a broker's death may have left hanging (outbox/hanging.py) until much later."""
    user = uuid4()
    async with private.session() as session, relaying(private.settings) as relay:
        await append(session, user, 1)
        await until_empty(session)
        await until_phase(relay, "leading")
        await private.kafka.kill()
        await until_phase(relay, "failing")
        with pytest.raises(NotReadyError):
            await relay.state.check_ready()
        await private.kafka.start()
        await until_phase(relay, "leading")
        await append(session, user, 2)
        await until_empty(session)

    assert (await consume(private.settings)).versions() == {str(user): [1, 2]}


async def test_postgresql_that_is_killed_and_recovers_costs_delay_only(private: Private) -> None:
    users = [uuid4() for _ in range(50)]
    async with relaying(private.settings):
        async with private.session() as session:
            await append_many(session, users, 20)
        await private.postgres.kill()
        await private.postgres.start()
        async with private.session() as session:
            await until_empty(session, within=60)

    assert (await consume(private.settings)).versions() == {str(user): list(range(1, 21)) for user in users}


async def test_a_frozen_relay_that_wakes_up_publishes_nothing_twice(private: Private, tmp_path: Path) -> None:
    users = [uuid4() for _ in range(100)]
    settings = private.settings.model_copy(update={"relay_page_rows": 100})
    write_settings(settings, tmp_path / "settings.json")
    async with private.session() as session:
        await append_many(session, users, 50)
        command = ["-m", "tests.integration.outbox.relay_process", str(tmp_path / "settings.json"), "never", "1"]
        process = await asyncio.create_subprocess_exec(sys.executable, *command)
        try:
            await _until_some_are_gone(session, 5000)
            os.kill(process.pid, signal.SIGSTOP)
            # What the frozen relay had open is aborted by the broker; when the lock's session is cut, another leads.
            await session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'muster relay lock%'"
            )
            async with relaying(settings):
                await until_empty(session, within=60)
                os.kill(process.pid, signal.SIGCONT)
                await append(session, users[0], 51)
                await until_empty(session)
        finally:
            os.kill(process.pid, signal.SIGCONT)
            process.terminate()
            await asyncio.wait_for(process.wait(), 30)

    versions = (await consume(settings)).versions()
    assert versions.pop(str(users[0])) == list(range(1, 52))
    assert versions == {str(user): list(range(1, 51)) for user in users[1:]}


async def _until_some_are_gone(session: Connection, total: int) -> None:
    async def some_gone() -> bool:
        left = await session.fetchval("SELECT count(*) FROM outbox")
        return bool(left < total)

    await until(some_gone, within=30, what="the relay to be in the middle of its work")
