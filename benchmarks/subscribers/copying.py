"""Bootstrap: how fast a copy of everybody is there, beside reading the same topic and doing nothing with it.

Alone; and while commands change users, where it also has to be complete.
"""

import asyncio
import gc
import time
from collections.abc import Iterable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.population import PARTITIONS, fill_command, user_id
from benchmarks.references.kafka.consumer import consume
from benchmarks.registrations import publish_many
from benchmarks.reporting.figures import Figure, number
from benchmarks.reporting.result import Result
from benchmarks.running.load import open_loop, request
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Rounds, Sample, interleave
from benchmarks.running.servers import Servers
from chassis.kafka.client import client_arguments
from chassis.lifecycle import freeze_loaded_objects
from chassis.settings import Topics
from events import Decoded, Erased, Unknown, bootstrap

RAW: Final = "aiokafka alone"
KIT: Final = "bootstrap"
COMMANDS_PER_SECOND: Final = 100.0
#: Those who are changed meanwhile; none of them is deactivated (benchmarks/population.py).
CHANGED: Final = 49
#: What docs/how-to/keep-a-copy.md advises: more than the objects of two batches.
YOUNG_OBJECTS: Final = 100_000
#: A million are read in a tenth of it.
BOOTSTRAP_SECONDS: Final = 300.0


@dataclass(slots=True)
class _Copy:
    """Id and version of everybody."""

    versions: dict[int, int] = field(default_factory=dict)
    #: Seconds of processor that went into `keep`.
    cpu: float = 0.0

    def keep(self, items: Iterable[Decoded]) -> None:
        """Decode the items of a batch, and keep them."""
        began = time.process_time()
        for item in items:
            assert not isinstance(item, Unknown), item
            if isinstance(item, Erased):
                self.versions.pop(item.user_id.int, None)
            else:
                self.versions[item.user.id.int] = item.version
        self.cpu += time.process_time() - began


async def measure_bootstrap(plan: Plan, servers: Servers, result: Result) -> None:
    """Read a topic of `plan.users` users, both ways in turns."""
    own = await servers.new_topics()
    topic = own.settings(Topics).events_topic
    plan.say(f"publishing {plan.users:,} users")
    await publish_many(own.kafka_settings, topic, plan.users)
    result.note(
        f"The topic has {plan.users:,} users. Bootstrap decodes every record, and keeps id and version of each. For it"
        " and for aiokafka alone, Python's garbage collector is set"
        " [as subscribers are advised](../how-to/keep-a-copy.md#faster-through-a-long-topic)."
    )

    async def copied() -> Sample:
        began, used = time.perf_counter(), time.process_time()
        copy = await _copy(own)
        assert len(copy.versions) == plan.users
        spent = {"cpu": time.process_time() - used, "items": copy.cpu}
        rate = plan.users / (time.perf_counter() - began)
        return Sample(rate, {name: seconds / plan.users * 1e6 for name, seconds in spent.items()})

    raw = partial(consume, own.kafka_settings, topic, records=plan.users)
    with _collector_as_advised():
        runs = await interleave(plan, {RAW: raw, KIT: copied}, unit="records/s")
    result.table(runs)
    result.claim("bootstrap / aiokafka alone", runs.ratio(KIT, RAW), at_least=0.25, reason=_reason(runs))


def _reason(runs: Rounds) -> str:
    """Return where the processor's time goes."""
    whole, items, raw = (
        number(runs.part(name, part).median) for name, part in ((KIT, "cpu"), (KIT, "items"), (RAW, "cpu"))
    )
    return (
        f"of {whole} µs of processor a record, {items} decode it and keep id and version; aiokafka alone takes {raw}."
        " Above the same records are decoded over and over; here each is new"
    )


async def measure_bootstrap_under_load(plan: Plan, servers: Servers, result: Result) -> None:
    """Once, while commands change some users without a pause; then the copy is compared with the commands' side."""
    own = await (await servers.new_topics()).new_database("command")
    plan.say(f"publishing {plan.users:,} users once more")
    await publish_many(own.kafka_settings, own.settings(Topics).events_topic, plan.users)
    async with own.session("command") as connection:
        await fill_command(connection, CHANGED)
    async with own.api("command") as api, own.muster("relay"):
        seconds = max(plan.seconds, plan.users / 50_000)
        sending = asyncio.create_task(_change(api.port, seconds))
        began = time.perf_counter()
        # Everything that the topic had when it began; then whatever came meanwhile.
        with _collector_as_advised():
            copy = (await _copy(own, until=sending)).versions
        whole = time.perf_counter() - began
    async with own.session("command") as connection:
        wanted = {row["id"].int: row["version"] for row in await connection.fetch("SELECT id, version FROM users")}
    assert max(wanted.values()) > 1
    # Those whom no command changed are at version 1.
    wrong = abs(plan.users - len(copy)) + sum(version != wanted.get(user, 1) for user, version in copy.items())
    result.measured(
        f"bootstrap with {COMMANDS_PER_SECOND:g} commands/s meanwhile, until it has the last of them",
        Figure((plan.users / whole,)),
        "records/s",
        "once",
    )
    result.claim("users whom it has not, or of another version", Figure.once(wrong), at_most=0, unit="users")


@contextmanager
def _collector_as_advised() -> Iterator[None]:
    before = gc.get_threshold()
    freeze_loaded_objects(YOUNG_OBJECTS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def _change(port: int, seconds: float) -> None:
    numbers = iter(range(1, 10**9))

    def following() -> bytes:
        number = next(numbers)
        document = {"display_name": f"Name {number}"}
        return request(f"/users/{user_id(number % CHANGED + 1)}/profile", method="PATCH", document=document)

    load = partial(open_loop, port, following, rate=COMMANDS_PER_SECOND, connections=8)
    await load(seconds=seconds)


async def _copy(servers: Servers, until: asyncio.Task[None] | None = None) -> _Copy:
    """The copy, once all is there that was, or with a task all that came until it ended."""
    consumer = AIOKafkaConsumer(
        **client_arguments(servers.kafka_settings),
        isolation_level="read_committed",
        auto_offset_reset="none",
        enable_auto_commit=False,
    )
    copy = _Copy()
    ended: datetime | None = None
    await consumer.start()
    try:
        consumer.assign([TopicPartition(servers.settings(Topics).events_topic, n) for n in range(PARTITIONS)])
        async with asyncio.timeout(BOOTSTRAP_SECONDS), aclosing(bootstrap(consumer)) as reading:
            async for batch in reading:
                copy.keep(batch.items)
                if until is None:
                    if batch.caught_up:
                        return copy
                elif until.done():
                    ended = ended or await _published(servers)
                    if batch.as_of and batch.as_of > ended:
                        return copy
    finally:
        await consumer.stop()
    raise AssertionError("a bootstrap never ends")


async def _published(servers: Servers) -> datetime:
    """When the relay had published everything."""
    async with servers.session("command") as connection, asyncio.timeout(BOOTSTRAP_SECONDS):
        while await connection.fetchval("SELECT count(*) FROM outbox"):
            await asyncio.sleep(0.05)
    return datetime.now(UTC)
