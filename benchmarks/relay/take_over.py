"""How long nobody publishes after the leader is killed in the middle of a transaction, or freezes with its host."""

import asyncio
import os
import signal
import sys
import time
from typing import Final

from benchmarks.relay.backlog import append, append_many, envelopes
from benchmarks.relay.watching import arriving
from benchmarks.running.servers import Servers
from local_stack.processes.http_process import HttpProcess
from outbox.notifier import OUTBOX_CHANNEL
from outbox.settings import RelaySettings

#: Enough events that the kill meets a transaction with data.
BACKLOG: Final = 20_000
PATIENCE_SECONDS: Final = 60.0


async def after_kill(servers: Servers, rounds: int) -> list[float]:
    """Return, for each round, the seconds from `kill -9` of the leader to the arrival of an event committed then."""
    async with servers.muster("relay") as one, servers.muster("relay") as other:
        return [await _kill_one(servers, (one, other)[turn % 2]) for turn in range(rounds)]


async def _kill_one(servers: Servers, leader: HttpProcess) -> float:
    async with servers.session("command") as connection, arriving(servers.settings(RelaySettings)) as arrivals:
        await append_many(connection, BACKLOG)
        await connection.execute(f"NOTIFY {OUTBOX_CHANNEL}")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await connection.fetchval("SELECT count(*) FROM outbox") > BACKLOG * 3 // 4:
                await asyncio.sleep(0.002)
        killed = time.perf_counter()
        await leader.kill()
        (event,) = envelopes(1)
        await append(connection, event)
        await arrivals.wait_for({str(event.event_id)}, within=PATIENCE_SECONDS)
        seconds = arrivals.times[str(event.event_id)] - killed
    await leader.start()
    return seconds


async def after_freeze(servers: Servers) -> float:
    """Return the seconds from the freeze of the leader's host to the arrival of an event."""
    settings = servers.settings(RelaySettings)
    environment = {**os.environ, **servers.environment}
    leader = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.relay.freezing_relay", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with servers.session("command") as connection, arriving(settings) as arrivals:
            first, second = envelopes(2)
            await append(connection, first)
            await arrivals.wait_for({str(first.event_id)}, within=PATIENCE_SECONDS)
            async with servers.muster("relay"):
                frozen = time.perf_counter()
                leader.send_signal(signal.SIGUSR1)
                await asyncio.to_thread(os.waitid, os.P_PID, leader.pid, os.WSTOPPED | os.WNOWAIT)
                await append(connection, second)
                await arrivals.wait_for({str(second.event_id)}, within=PATIENCE_SECONDS)
                return arrivals.times[str(second.event_id)] - frozen
    finally:
        leader.kill()
        await leader.wait()
