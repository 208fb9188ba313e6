"""Requests that ask for the like, gathered: all that come in one turn of the loop become one statement.

A statement costs the client library and the server about as much before its first row as for fifty: under load the
cost of each request falls by itself, and a lone one waits for nobody. Batches run on few connections and queue behind
them, which gathers more the busier it is; one that takes long holds the next up no more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final, Generic, TypeVar

from chassis.postgres.database import DatabaseUnavailableError

#: Batches that run at once: two keep the server busy while this process works on the other's rows.
LANES: Final = 2
#: A batch that takes longer holds the next one up no more: from memory they take a millisecond or two, from a disk each
#: page may take several.
SLOW_SECONDS: Final = 0.01
#: A batch that has queued this long is refused: a server that stalls for a second costs nobody an answer, one that
#: stalls for longer is told of.
QUEUE_SECONDS: Final = 2.0

Key = TypeVar("Key", bound=Hashable)
Asked = TypeVar("Asked")
Given = TypeVar("Given")


class _Batch(Generic[Key, Asked, Given]):
    """What is asked with one key, and who asks."""

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


class Gathering(Generic[Key, Asked, Given]):
    """Gathers what is asked with the same key, many askers at a time."""

    def __init__(
        self, read: Callable[[Key, Sequence[Asked]], Awaitable[Sequence[Given]]], *, batch: int, queued: int
    ) -> None:
        """`read` answers a batch in its order; a batch is full at size `batch`, and at most `queued` of them queue.

        Nothing runs until somebody asks.
        """
        self._read = read
        self._batch = batch
        self._queued = queued
        self._queue: deque[_Batch[Key, Asked, Given]] = deque()
        #: Those in the queue that others may join.
        self._gathering: dict[Key, _Batch[Key, Asked, Given]] = {}
        self._running: set[asyncio.Task[None]] = set()
        #: When each began that has a lane.
        self._lanes: dict[asyncio.Task[None], float] = {}
        self._passing: asyncio.TimerHandle | None = None

    async def ask(self, key: Key, asked: Asked, *, size: int = 1) -> Given:
        """What `read` gives for it.

        Raises:
            DatabaseUnavailableError: the queue is full, or was too slow.
            Exception: whatever `read` raises.
        """
        batch = self._gathering.get(key) or self._open(key)
        reader: asyncio.Future[Given] = asyncio.get_running_loop().create_future()
        batch.asked.append(asked)
        batch.readers.append(reader)
        batch.size += size
        if batch.size >= self._batch:
            del self._gathering[key]
        return await reader

    def _open(self, key: Key) -> _Batch[Key, Asked, Given]:
        if len(self._queue) >= self._queued:
            raise DatabaseUnavailableError(f"{self._queued} batches of reads are queued")
        loop = asyncio.get_running_loop()
        batch = self._gathering[key] = _Batch(key)
        batch.expiry = loop.call_later(QUEUE_SECONDS, self._expire, batch)
        self._queue.append(batch)
        loop.call_soon(self._dispatch)
        return batch

    def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue and len(self._lanes) < LANES:
            batch = self._queue.popleft()
            self._settle(batch)
            task = asyncio.ensure_future(self._run(batch))
            self._running.add(task)
            self._lanes[task] = loop.time()
            task.add_done_callback(self._finished)
        if self._queue and self._passing is None:
            self._passing = loop.call_later(SLOW_SECONDS, self._pass_by)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._lanes.pop(task, None)
        self._dispatch()

    def _pass_by(self) -> None:
        """Give the lanes of those that take long to the next."""
        self._passing = None
        slow = asyncio.get_running_loop().time() - SLOW_SECONDS
        self._lanes = {task: since for task, since in self._lanes.items() if since > slow}
        self._dispatch()

    def _settle(self, batch: _Batch[Key, Asked, Given]) -> None:
        """It does not queue any more."""
        if batch.expiry:
            batch.expiry.cancel()
        if self._gathering.get(batch.key) is batch:
            del self._gathering[batch.key]

    def _expire(self, batch: _Batch[Key, Asked, Given]) -> None:
        self._queue.remove(batch)
        self._settle(batch)
        batch.fail(DatabaseUnavailableError(f"reads queued for {QUEUE_SECONDS:g} s"))

    async def _run(self, batch: _Batch[Key, Asked, Given]) -> None:
        try:
            given = await self._read(batch.key, batch.asked)
        except DatabaseUnavailableError as error:
            # Those behind have waited for the same connection, or soon would.
            queued = list(self._queue)
            self._queue.clear()
            for waiting in (batch, *queued):
                self._settle(waiting)
                waiting.fail(error)
        except Exception as error:  # noqa: BLE001 - it is raised again, by everyone who waits for this batch
            batch.fail(error)
        else:
            batch.answer(given)
