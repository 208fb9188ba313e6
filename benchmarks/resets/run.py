"""A reset of a password by a one-time token: from the request for the token until the event is on the topic.

One user resets the password again and again, each time when the event of the time before has been read. Beside it one
hash with the same parameters is made at a time: what a reset takes beyond it is Muster's own.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import httpx
from aiokafka import AIOKafkaConsumer
from argon2 import PasswordHasher

from benchmarks.reporting.figures import percentile
from benchmarks.reporting.result import Result
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Probe, Sample, interleave
from benchmarks.running.servers import Servers, open_servers
from chassis.kafka.client import client_arguments
from chassis.settings import Topics

#: A hash takes 20 ms and a reset twice that, so a round has a hundred of each.
TIMES: Final = 2
#: Far longer than what is measured: an answer or an event that has not come by then is lost.
LOST_SECONDS: Final = 20.0
BEYOND_THE_HASH_MS: Final = 40
RESET: Final = "reset, issue to topic"
HASH: Final = "one Argon2id hash"


async def run(plan: Plan) -> Result:
    """Measure resets beside bare hashes, in turns."""
    result = Result("Resets")
    result.note(
        "All processes share the machine. Milliseconds count from the request for a one-time token, its answer, "
        "its redemption with a new password and the hash of that, until a read_committed consumer has "
        "`password_changed`; one reset follows another."
    )
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(open_servers(plan))
        app = await stack.enter_async_context(servers.app("cli.processes.serve:command_app", hot=True))
        await stack.enter_async_context(servers.muster("relay", hot=True))
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=app.url, trust_env=False, timeout=LOST_SECONDS)
        )
        consumer = await stack.enter_async_context(_consumer(servers))
        user = await _somebody(client, consumer)
        seconds = plan.seconds * TIMES
        probes = {HASH: _hashes(seconds), RESET: _resets(client, consumer, user, seconds)}
        runs = await interleave(plan, probes, unit="ms")
    result.table(runs)
    beyond = runs.combined(RESET, HASH, lambda reset, one: reset - one)
    result.claim("p50 of a reset, beyond its hash", beyond, at_most=BEYOND_THE_HASH_MS, unit="ms")
    return result


@asynccontextmanager
async def _consumer(servers: Servers) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        servers.settings(Topics).events_topic,
        **client_arguments(servers.kafka_settings),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _somebody(client: httpx.AsyncClient, consumer: AIOKafkaConsumer) -> str:
    """Register a user whose event has been read; gives the id."""
    body = {"email": "resets@example.com", "username": "resets", "password": "the first of many passwords"}
    answer = await client.post("/users", json=body)
    answer.raise_for_status()
    await asyncio.wait_for(consumer.getone(), LOST_SECONDS)
    user: str = answer.json()["id"]
    return user


def _resets(client: httpx.AsyncClient, consumer: AIOKafkaConsumer, user: str, seconds: float) -> Probe:
    async def run() -> Sample:
        times, end = [], time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            issued = await client.post(f"/users/{user}/one-time-tokens", json={"purpose": "password-reset"})
            body = {"token": issued.json()["token"], "password": f"a new password at {start}"}
            redeemed = await client.post("/one-time-tokens/redeem", json=body)
            redeemed.raise_for_status()
            await asyncio.wait_for(consumer.getone(), LOST_SECONDS)
            times.append((time.perf_counter() - start) * 1000)
        return _sample(times)

    return run


def _hashes(seconds: float) -> Probe:
    async def run() -> Sample:
        hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        times, end = [], time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            await asyncio.to_thread(hasher.hash, f"a new password at {start}")
            times.append((time.perf_counter() - start) * 1000)
        return _sample(times)

    return run


def _sample(times: list[float]) -> Sample:
    return Sample(percentile(times, 0.5), {"p99": percentile(times, 0.99)})
