"""What an event waits when there is little to do: 200 events a second, on a machine that is idle otherwise.

Subject: from the command's commit to a read_committed consumer, through `muster relay` in its own process; commits are
due at fixed times, whatever became of the events before. Reference: aiokafka's `send_and_wait` of the same records,
each from when it was due, none waiting for the one before; it reaches the broker and no more.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg

from benchmarks.references.kafka.producer import producing, send_and_wait
from benchmarks.relay.backlog import append, messages
from benchmarks.relay.watching import arriving
from benchmarks.reporting.figures import percentile
from benchmarks.running.rounds import NoFigureError, Probe, Sample
from benchmarks.running.servers import Servers
from events.envelope import Envelope
from outbox.notifier import Notifier
from outbox.settings import RelaySettings

Append = Callable[[asyncpg.Connection, Envelope], Awaitable[None]]

RATE: Final = 200
#: The last event of a probe arrives in milliseconds; after this it is a failure and no latency.
ARRIVAL_SECONDS: Final = 10.0


def relay_probe(servers: Servers, events: list[Envelope], append: Append = append) -> Probe:
    """Return the milliseconds from commit to consumer; a relay must be running, which publishes what is appended."""

    async def probe() -> Sample:
        settings = servers.settings(RelaySettings)
        committed: dict[str, float] = {}
        async with (
            arriving(settings) as arrivals,
            Notifier.open(servers.command) as notifier,
            servers.session("command") as connection,
        ):

            async def one(event: Envelope) -> None:
                await append(connection, event)
                committed[str(event.event_id)] = time.perf_counter()
                notifier.notify()

            await _at_rate(events, one)
            try:
                await arrivals.wait_for(set(committed), within=ARRIVAL_SECONDS)
            except TimeoutError as error:
                late = len(committed.keys() - arrivals.times.keys())
                raise NoFigureError(f"{late} of {len(events)} events took over {ARRIVAL_SECONDS:.0f} s") from error
        return _sample([arrivals.times[event_id] - then for event_id, then in committed.items()])

    return probe


def send_probe(servers: Servers, events: list[Envelope]) -> Probe:
    """Return the seconds from when each record was due until it was acknowledged."""
    sent = messages(events)

    async def probe() -> Sample:
        settings = servers.settings(RelaySettings)
        async with producing(settings) as producer:
            return await send_and_wait(producer, settings.events_topic, sent, rate=RATE)

    return probe


async def _at_rate(events: list[Envelope], one: Callable[[Envelope], Awaitable[None]]) -> None:
    start = time.perf_counter()
    for number, event in enumerate(events):
        await asyncio.sleep(max(0.0, start + number / RATE - time.perf_counter()))
        await one(event)


def _sample(latencies: list[float]) -> Sample:
    milliseconds = [1000 * value for value in latencies]
    return Sample(percentile(milliseconds, 0.5), {"p99": percentile(milliseconds, 0.99)})
