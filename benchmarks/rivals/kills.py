"""`kill -9` in the middle of a stream, over and over; then what a read_committed consumer lost, met twice or met late.

One writer commits events of a few users, one after the other, so that a consumer knows the order of each user's.
"""

import asyncio
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Final

from aiokafka import ConsumerRecord

from benchmarks.relay.backlog import envelopes
from benchmarks.rivals.committed import Committed, committed_since_now
from benchmarks.rivals.contenders import Contender
from benchmarks.running.rounds import NoFigureError
from chassis.identifiers import new_id
from events.envelope import Envelope, read_envelope
from outbox.notifier import Notifier
from outbox.settings import RelaySettings

#: Few, so that each has several events on the way when a process is killed.
USERS: Final = 50
#: Events a second, and in one transaction.
RATE: Final = 1000
TOGETHER: Final = 20
#: What must have passed since the start before the next kill, so that each meets a process that publishes.
BETWEEN_EVENTS: Final = 500
#: Seconds from then until the kill, by chance.
LATER: Final = (0.0, 0.7)
#: Kafka's own timeout of a transaction is a minute: a process that is held up by its former self's goes on after it.
STALL_SECONDS: Final = 180.0
QUIET_SECONDS: Final = 90.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the events that were committed: those that never came, came again, or came after a later one of their user."""

    committed: int
    lost: int
    repeated: int
    inverted: int


async def killed(contender: Contender, kills: int, seed: int) -> Counts:
    """Kill the process so many times, each time while it publishes, and start it again at once.

    Raises:
        NoFigureError: it published nothing for STALL_SECONDS; nothing can be said of it then.
    """
    chance, stopping, sent = random.Random(seed), asyncio.Event(), list[Envelope]()
    async with committed_since_now(contender.servers.settings(RelaySettings)) as committed:
        writing = asyncio.create_task(_write(contender, sent, stopping))
        try:
            for _ in range(kills):
                await _publishing(contender, committed)
                await asyncio.sleep(chance.uniform(*LATER))
                await contender.process.kill()
                await contender.process.start()
            await _publishing(contender, committed)
        finally:
            stopping.set()
            await writing
        return counted(sent, await committed.records(len(sent), quiet=QUIET_SECONDS))


def counted(sent: Sequence[Envelope], records: Iterable[ConsumerRecord]) -> Counts:
    """Compare what was committed with what came, in the order in which it came on each partition."""
    seen: set[str] = set()
    newest: dict[str, int] = {}
    repeated = inverted = 0
    for record in records:
        event = read_envelope(record.headers)
        identifier, subject = str(event.event_id), str(event.subject_id)
        if identifier in seen:
            repeated += 1
            continue
        seen.add(identifier)
        inverted += event.version < newest.get(subject, 0)
        newest[subject] = max(event.version, newest.get(subject, 0))
    lost = {str(event.event_id) for event in sent} - seen
    return Counts(len(sent), len(lost), repeated, inverted)


async def _publishing(contender: Contender, committed: Committed) -> None:
    wanted = await committed.grown() + BETWEEN_EVENTS
    try:
        await committed.until_grown(wanted, within=STALL_SECONDS)
    except TimeoutError as error:
        raise NoFigureError(f"{contender.name} published nothing for {STALL_SECONDS:.0f} s after a kill") from error


async def _write(contender: Contender, sent: list[Envelope], stopping: asyncio.Event) -> None:
    events = _stream()
    async with contender.servers.session("command") as connection, Notifier.open(contender.servers.command) as notifier:
        while not stopping.is_set():
            following = list(islice(events, TOGETHER))
            async with connection.transaction():
                await contender.append(connection, following)
            sent += following
            notifier.notify()
            await asyncio.sleep(TOGETHER / RATE)


def _stream() -> Iterator[Envelope]:
    """Yield events without end, of each user in the order of its versions."""
    users = envelopes(USERS)
    for version in count(1):
        for first in users:
            yield replace(first, event_id=new_id(), version=version)
