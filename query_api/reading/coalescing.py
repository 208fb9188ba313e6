"""Coalescing: reads with the same key that are asked for in one turn of the loop become one statement.

Before its first row, a statement costs the client library and the server about as much for one read as for fifty. So
the cost of each read falls under load, and a lone read waits for nobody. Batches run in few lanes and queue behind
them: the longer the queue, the more reads join each batch. A batch that takes long no longer holds up the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final, Generic, TypeVar

from chassis.postgres.database import DatabaseUnavailableError

#: Batches that run at once: two keep the server busy while this process works on the other's rows.
LANES: Final = 2
#: A batch that takes longer gives up its lane. From memory a batch takes a millisecond or two, from a disk several for
#: each page.
SLOW_SECONDS: Final = 0.01
#: A batch that has queued for so long is refused: a server that stalls for a second then costs nobody an answer, and a
#: longer stall is reported.
QUEUE_SECONDS: Final = 2.0

Key = TypeVar("Key", bound=Hashable)
Asked = TypeVar("Asked")
Given = TypeVar("Given")


class _ReadBatch(Generic[Key, Asked, Given]):
    """One key, the things that are asked with it, and the readers who ask."""

    __slots__ = ("asked", "expiry", "key", "readers", "size")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.asked: list[Asked] = []
        self.readers: list[asyncio.Future[Given]] = []
        self.size = 0
        self.expiry: asyncio.TimerHandle | None = None

    def answer(self, given: Sequence[Given]) -> None:
        for reader, one in zip(self.readers, given, strict=True):
            if not reader.done():
                reader.set_result(one)

    def fail(self, error: Exception) -> None:
        for reader in self.readers:
            if not reader.done():
                reader.set_exception(error)


class Coalescer(Generic[Key, Asked, Given]):
    """Reads for many askers at once what they ask with the same key."""

    def __init__(
        self, read: Callable[[Key, Sequence[Asked]], Awaitable[Sequence[Given]]], *, batch: int, queued: int
    ) -> None:
        """`read` answers a batch in its order; a batch is full at size `batch`, and at most `queued` of them queue.

        Nothing runs until somebody asks.
        """
        self._read = read
        self._batch = batch
        self._queued = queued
        self._queue: deque[_ReadBatch[Key, Asked, Given]] = deque()
        #: The batches in the queue that others may join.
        self._open: dict[Key, _ReadBatch[Key, Asked, Given]] = {}
        self._running: set[asyncio.Task[None]] = set()
        #: The tasks that have a lane, and when each began.
        self._lanes: dict[asyncio.Task[None], float] = {}
        self._overtaking: asyncio.TimerHandle | None = None

    async def ask(self, key: Key, asked: Asked, *, size: int = 1) -> Given:
        """Read it together with others, and return what `read` gives for it.

        Raises:
            DatabaseUnavailableError: the queue is full, or was too slow.
            Exception: whatever `read` raises.
        """
        batch = self._open.get(key) or self._begin(key)
        reader: asyncio.Future[Given] = asyncio.get_running_loop().create_future()
        batch.asked.append(asked)
        batch.readers.append(reader)
        batch.size += size
        if batch.size >= self._batch:
            del self._open[key]
        return await reader

    def _begin(self, key: Key) -> _ReadBatch[Key, Asked, Given]:
        """Put a batch into the queue, to be sent after this turn of the loop at the earliest."""
        if len(self._queue) >= self._queued:
            raise DatabaseUnavailableError(f"{self._queued} batches of reads are queued")
        loop = asyncio.get_running_loop()
        batch = self._open[key] = _ReadBatch(key)
        batch.expiry = loop.call_later(QUEUE_SECONDS, self._expire, batch)
        self._queue.append(batch)
        loop.call_soon(self._dispatch)
        return batch

    def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue and len(self._lanes) < LANES:
            batch = self._queue.popleft()
            self._close(batch)
            task = asyncio.ensure_future(self._run(batch))
            self._running.add(task)
            self._lanes[task] = loop.time()
            task.add_done_callback(self._finished)
        if self._queue and self._overtaking is None:
            self._overtaking = loop.call_later(SLOW_SECONDS, self._overtake)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._lanes.pop(task, None)
        self._dispatch()

    def _overtake(self) -> None:
        """Give the lanes of slow batches to the next ones."""
        self._overtaking = None
        slow = asyncio.get_running_loop().time() - SLOW_SECONDS
        self._lanes = {task: since for task, since in self._lanes.items() if since > slow}
        self._dispatch()

    def _close(self, batch: _ReadBatch[Key, Asked, Given]) -> None:
        """The batch has left the queue: nobody joins it any more."""
        if batch.expiry:
            batch.expiry.cancel()
        if self._open.get(batch.key) is batch:
            del self._open[batch.key]

    def _expire(self, batch: _ReadBatch[Key, Asked, Given]) -> None:
        self._queue.remove(batch)
        self._close(batch)
        batch.fail(DatabaseUnavailableError(f"reads queued for {QUEUE_SECONDS:g} s"))

    async def _run(self, batch: _ReadBatch[Key, Asked, Given]) -> None:
        try:
            given = await self._read(batch.key, batch.asked)
        except DatabaseUnavailableError as error:
            # The queued batches have waited for the same connection, or soon would.
            queued = list(self._queue)
            self._queue.clear()
            for waiting in (batch, *queued):
                self._close(waiting)
                waiting.fail(error)
        except Exception as error:  # noqa: BLE001 - every reader of this batch raises it again
            batch.fail(error)
        else:
            batch.answer(given)
