"""The end of a transaction that times out while its connection lives, and arrives within the next transaction.

A proxy before the broker holds the answer to EndTxn, or the request itself, until a later transaction has sent records;
then it lets it through. This is the fault of KIP-890: whoever takes the late answer for that of the next transaction
loses events, and a broker that obeys the late request commits what was not ready. CI holds a few, `make storm` a
thousand.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Literal, Self
from unittest.mock import patch
from uuid import UUID, uuid4

from outbox.publishing import publisher
from outbox.settings import RelaySettings
from tests.integration.outbox.relaying import relaying
from tests.integration.outbox.traffic import Comparison, Connection, append, consume, until_empty

USERS: Final = 10
#: A relay starts anew in a second; a loaded machine needs longer.
WAIT_SECONDS: Final = 180
#: Keys of Kafka's protocol.
PRODUCE, METADATA, FIND_COORDINATOR, END_TXN = 0, 3, 10, 26
Held = Literal["answer", "request"]
#: How often it is told how many have come.
TELL_EVERY: Final = 20
Report = Callable[[str], object]


@dataclass(slots=True)
class _Pair:
    """A client's connection and the one to the broker."""

    client: asyncio.StreamWriter
    broker: asyncio.StreamWriter
    #: What each answer that is still to come answers.
    asked: dict[bytes, int] = field(default_factory=dict)


class LateProxy:
    """Passes everything on between clients and one broker, but for the end of a transaction that is to be late."""

    def __init__(self, target: str) -> None:
        """`target` is the broker's host and port."""
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self.address = target
        #: Set once the late one is held, and once it was let through within a later transaction.
        self.held = asyncio.Event()
        self.released = asyncio.Event()
        self._next: Held | None = None
        self._late: tuple[asyncio.StreamWriter, bytes] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def hold(self, what: Held) -> None:
        """Hold the next one."""
        self.held.clear()
        self.released.clear()
        self._next = what

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Self]:
        """Listen until the block ends."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            await asyncio.sleep(0)
            while self._tasks:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there, broker = await asyncio.open_connection(self._host, self._port)
        except BaseException:
            writer.transport.abort()
            raise
        pair = _Pair(writer, broker)
        back = asyncio.create_task(self._pass_back(there, pair))
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while frame := await _frame(reader):
                    await self._pass_on(frame, pair)
            # The client is gone; what is late lives on.
            while self._late is not None and self._late[0] in (broker, writer):
                await self.released.wait()
        finally:
            back.cancel()
            for end in (broker, writer):
                end.transport.abort()
            await asyncio.gather(back, return_exceptions=True)

    async def _pass_on(self, frame: bytes, pair: _Pair) -> None:
        key = int.from_bytes(frame[4:6], signed=True)
        pair.asked[frame[8:12]] = key
        if key == END_TXN and self._takes("request"):
            self._hold(pair.broker, frame)
            return
        pair.broker.write(frame)
        await pair.broker.drain()
        if key == PRODUCE and self._late:
            self._release()

    async def _pass_back(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while frame := await _frame(reader):
                key = pair.asked.pop(frame[4:8], None)
                if key == END_TXN and self._takes("answer"):
                    self._hold(pair.client, frame)
                    continue
                if key in (METADATA, FIND_COORDINATOR):
                    frame = frame.replace(_address(self._host, self._port), self._own_address())
                pair.client.write(frame)
                await pair.client.drain()
        pair.client.close()

    def _takes(self, what: Held) -> bool:
        taken = self._next == what
        if taken:
            self._next = None
        return taken

    def _hold(self, writer: asyncio.StreamWriter, frame: bytes) -> None:
        self._late = writer, frame
        self.held.set()

    def _release(self) -> None:
        assert self._late is not None
        writer, frame = self._late
        self._late = None
        if not writer.is_closing():
            writer.write(frame)
        self.released.set()

    def _own_address(self) -> bytes:
        return _address(self._host, int(self.address.rpartition(":")[2]))


async def _frame(reader: asyncio.StreamReader) -> bytes:
    """A request or an answer, with its length before it."""
    size = await reader.readexactly(4)
    return size + await reader.readexactly(int.from_bytes(size))


def _address(host: str, port: int) -> bytes:
    """A broker's address as answers have it."""
    return host.encode() + struct.pack(">i", port)


@dataclass(slots=True)
class Outcome:
    """How many were late, and what a read_committed consumer found afterwards."""

    answers: int = 0
    requests: int = 0
    events: int = 0
    lost: int = 0
    repeated: int = 0
    inverted: int = 0

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return (self.lost, self.repeated, self.inverted) == (0, 0, 0)


async def late_ends(
    relays: Sequence[tuple[RelaySettings, Connection]],
    rounds: int,
    seconds: float,
    report: Report = lambda _: None,
) -> Outcome:
    """Hold the end of a transaction `rounds` times, answers and requests in turn; a relay waits `seconds` for it.

    The relays, each with a session on its command database, share the rounds.
    """
    outcome, numbers = Outcome(), iter(range(rounds))
    with patch.object(publisher, "TRANSACTION_SECONDS", seconds):
        async with asyncio.TaskGroup() as group:
            for settings, connection in relays:
                group.create_task(_late_ends(settings, connection, numbers, outcome, report))
    return outcome


async def _late_ends(
    settings: RelaySettings, connection: Connection, numbers: Iterator[int], outcome: Outcome, report: Report
) -> None:
    versions = dict.fromkeys((uuid4() for _ in range(USERS)), 0)
    async with LateProxy(settings.kafka_bootstrap_servers).listening() as proxy:
        behind = settings.model_copy(update={"kafka_bootstrap_servers": proxy.address})
        async with relaying(behind):
            for number in numbers:
                what: Held = "request" if number % 2 else "answer"
                proxy.hold(what)
                await _append_one_each(connection, versions)
                await asyncio.wait_for(proxy.held.wait(), WAIT_SECONDS)
                await _append_one_each(connection, versions)
                await asyncio.wait_for(proxy.released.wait(), WAIT_SECONDS)
                await until_empty(connection, within=WAIT_SECONDS)
                outcome.answers += what == "answer"
                outcome.requests += what == "request"
                if (done := outcome.answers + outcome.requests) % TELL_EVERY == 0:
                    report(f"late ends: {done:,}")
    found = Comparison.of((await consume(settings)).versions(), {str(user): last for user, last in versions.items()})
    outcome.events += sum(versions.values())
    outcome.lost += found.lost
    outcome.repeated += found.repeated
    outcome.inverted += found.inverted


async def _append_one_each(connection: Connection, versions: dict[UUID, int]) -> None:
    for user, last in versions.items():
        versions[user] = last + 1
        await append(connection, user, last + 1)
