"""A standby takes over when the leader dies or its host freezes; benchmarks/relay says how fast on a calm machine.

The leader is a process of its own, the standby runs here. Deadlines are promises where a busy machine can keep them.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from outbox.relay import Relay
from outbox.settings import RelaySettings
from tests.integration.outbox.relaying import relay_process, relaying, until_phase
from tests.integration.outbox.settings_file import write_settings
from tests.integration.outbox.traffic import Connection, append, consume, until_empty
from tests.waiting import until

#: Promised 2 s on a machine with nothing else to do; tests share theirs.
AFTER_KILL_SECONDS = 10
AFTER_FREEZE_SECONDS = 10


@asynccontextmanager
async def leader_and_standby(
    settings: RelaySettings, connection: Connection, path: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Relay]]:
    """A leader that has published something, and a standby."""
    write_settings(settings, path)
    async with relay_process(path, "never", 1) as leader:
        await append(connection, uuid4(), 1)
        await until_empty(connection)
        async with relaying(settings) as standby:
            await until_phase(standby, "standby")
            yield leader, standby


async def test_a_standby_takes_over_when_the_leader_is_killed(
    connection: Connection, relay_settings: RelaySettings, tmp_path: Path
) -> None:
    user = uuid4()
    async with leader_and_standby(relay_settings, connection, tmp_path / "settings.json") as (leader, standby):
        leader.kill()
        await append(connection, user, 1)
        await until_empty(connection, within=AFTER_KILL_SECONDS)

        assert standby.state.phase == "leading"
    assert (await consume(relay_settings)).versions()[str(user)] == [1]


async def test_a_standby_takes_over_when_the_leaders_host_freezes(
    connection: Connection, relay_settings: RelaySettings, tmp_path: Path
) -> None:
    """No connection is closed and no packet answered: the server's keepalives alone can tell."""
    user = uuid4()
    async with leader_and_standby(relay_settings, connection, tmp_path / "settings.json") as (leader, standby):
        leader.send_signal(signal.SIGUSR1)
        await until_stopped(leader.pid)
        await append(connection, user, 1)
        began = time.monotonic()
        await until_empty(connection, within=AFTER_FREEZE_SECONDS)

        assert standby.state.phase == "leading"
        assert time.monotonic() - began > 2, "the leader was not frozen but dead"
    assert (await consume(relay_settings)).versions()[str(user)] == [1]


async def until_stopped(pid: int) -> None:
    """Wait until a process is stopped."""

    async def stopped() -> bool:
        status = await asyncio.to_thread(Path(f"/proc/{pid}/stat").read_text)
        return status.rsplit(")", 1)[1].split()[0] == "T"

    await until(stopped, within=10, what="the process to stop")
