"""The memory of a rebuild of a million users, in a process of its own like `muster rebuild`."""

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import Final

import psutil
from aiokafka import AIOKafkaProducer

from benchmarks.population import PARTITIONS, user_id
from benchmarks.reporting.figures import Figure
from benchmarks.reporting.result import Plot, Result
from benchmarks.running.plan import Plan
from benchmarks.running.servers import Servers
from chassis.identifiers import new_id
from chassis.kafka.client import client_arguments
from chassis.settings import Kafka
from events.envelope import Envelope
from events.user_events import USER_EVENTS, PublicUser, UserRegistered

TRANSACTION_RECORDS: Final = 10_000
LOOK_SECONDS: Final = 0.25
#: A run that takes longer than this has another fault than its memory.
REBUILD_SECONDS: Final = 150.0
_NAME: Final = b"@name@"


async def measure_memory(plan: Plan, servers: Servers, result: Result) -> None:
    """Publish `plan.users` registrations, rebuild, and note the resident size on the way."""
    own = await (await servers.new_topics()).new_database("query")
    plan.say(f"publishing {plan.users:,} users")
    await _publish(own, plan.users)
    plan.say(f"rebuilding {plan.users:,} users in a process of its own")
    began = time.perf_counter()
    looks = await _rebuild(own)
    seconds = time.perf_counter() - began
    result.measured(f"rebuild of {plan.users:,} users, with the start of its process", Figure((seconds,)), "s", "once")
    sizes = {part: _size_at(looks, int(plan.users * part)) for part in (0.25, 0.5, 1.0)}
    for part, size in sizes.items():
        result.measured(f"memory of the rebuild at {int(plan.users * part):,} users", Figure.once(size), "MB")
    result.claim(
        f"memory at {plan.users:,} users / at a quarter of them", Figure.once(sizes[1.0] / sizes[0.25]), at_most=1.25
    )
    points = [(float(done), size) for done, size in looks]
    result.plot(Plot("rebuild-memory", "Memory of a rebuild", "records", "MB", {"resident": points}))


def _size_at(looks: list[tuple[int, float]], done: int) -> float:
    """Return the greatest size until that many records were applied."""
    return max([size for position, size in looks if position <= done * 1.01], default=looks[0][1])


async def _rebuild(servers: Servers) -> list[tuple[int, float]]:
    """Yield (positions applied, resident MB) over time."""
    arguments = ("-m", "cli.main", "rebuild", "users", "--pause-before-switch", "--accept-difference", "--json")
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=servers.environment, stdout=quiet, stderr=quiet
    )
    watched, looks = psutil.Process(process.pid), list[tuple[int, float]]()
    try:
        async with servers.session("query") as connection, asyncio.timeout(REBUILD_SECONDS):
            while process.returncode is None:
                done = await connection.fetchval(
                    "SELECT coalesce(sum(position), 0)::bigint FROM checkpoints WHERE generation = 2"
                )
                if watched.is_running() and watched.status() != psutil.STATUS_ZOMBIE and done:
                    looks.append((done, watched.memory_info().rss / 1e6))
                await asyncio.sleep(LOOK_SECONDS)
        assert process.returncode == 0, "the rebuild failed"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return looks


async def _publish(servers: Servers, users: int) -> None:
    """Make registrations from one by exchanging ids and names, which is fast: a million in a fraction of a minute."""
    now = datetime.now(UTC)
    sample = PublicUser(
        id=user_id(1), email=f"{_NAME.decode()}@example.com", username=_NAME.decode(), email_verified=False,
        display_name=None, attributes={}, is_active=True, status="active", version=1, created_at=now, updated_at=now,
    )  # fmt: skip
    event = UserRegistered(user=sample)
    value, first = USER_EVENTS.encode(event), str(sample.id).encode()
    assert value is not None
    producer = AIOKafkaProducer(
        **client_arguments(servers.settings(Kafka)), transactional_id="benchmark-memory", compression_type="lz4",
        max_batch_size=512 * 1024,
    )  # fmt: skip
    await producer.start()
    try:
        for start in range(1, users + 1, TRANSACTION_RECORDS):
            async with producer.transaction():
                sent = []
                for number in range(start, min(start + TRANSACTION_RECORDS, users + 1)):
                    envelope = Envelope(
                        event_id=new_id(), source=USER_EVENTS.source, type=event.type(), subject_id=user_id(number),
                        version=1, time=now, correlation_id="b", causation_id="b",
                    )  # fmt: skip
                    key = str(envelope.subject_id).encode()
                    sent.append(
                        await producer.send(
                            servers.environment["EVENTS_TOPIC"],
                            value.replace(first, key).replace(_NAME, b"user%d" % number),
                            key=key,
                            # It only matters that a user's events share a partition; hashing keys would be slow.
                            partition=number % PARTITIONS,
                            headers=envelope.headers(),
                        )
                    )
                await asyncio.gather(*sent)
    finally:
        await producer.stop()
