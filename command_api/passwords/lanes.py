"""Threads with a bounded queue before them, in which nobody's second comes before another's first.

A crowd that guesses at one account so keeps another's login waiting for one hash, not for all of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, Final, TypeVar

from chassis.http.transport.client import client

T = TypeVar("T")
_Work = tuple[Callable[[], Any], Future[Any]]

QUEUE_FULL: Final = "as many passwords wait to be hashed as may; nothing was changed"


class HashingBusyError(Exception):
    """More passwords wait to be hashed than this process takes; the message is for the client."""


class Lane:
    """Threads of one kind of work; used in one loop."""

    def __init__(self, name: str, threads: int, queue: int) -> None:
        """Up to `queue` works may wait; end it with `end`."""
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._limit = threads + queue
        self._pending = 0
        self._waiting = _Waiting()

    async def run(self, work: Callable[[], T], whose: Hashable) -> T:
        """Do it in one of the threads, if the client still waits when its turn comes.

        Raises:
            HashingBusyError: too many wait already, or the client does not wait any more.
        """
        if not self.has_room():
            raise HashingBusyError(QUEUE_FULL)
        sender = client.get()

        def work_if_wanted() -> T:
            if not sender.waits:
                raise HashingBusyError("this process is stopping, or the client has left; nothing was changed")
            return work()

        self._pending += 1
        try:
            return await self.run_uncounted(work_if_wanted, whose)
        finally:
            self._pending -= 1

    def has_room(self) -> bool:
        """Whether one more may wait."""
        return self._pending < self._limit

    async def run_uncounted(self, work: Callable[[], T], whose: Hashable) -> T:
        """Do it when its turn comes, whatever the limit: the caller bounds how many there are."""
        done: Future[T] = Future()
        self._waiting.add(whose, (work, done))
        self._executor.submit(self._do_next)
        return await asyncio.wrap_future(done)

    def _do_next(self) -> None:
        whose, (work, done) = self._waiting.take()
        if done.set_running_or_notify_cancel():
            try:
                done.set_result(work())
            except BaseException as error:  # noqa: BLE001 - for whoever waits for it
                done.set_exception(error)
        self._waiting.put_last(whose)

    def end(self) -> None:
        """Wait for what runs; what waits is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        for _, done in self._waiting.drain():
            done.cancel()


class _Waiting:
    """What waits for a thread: one of each who waits in turn, and last of those whose work has just begun or ended."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._works: dict[Hashable, deque[_Work]] = {}

    def add(self, whose: Hashable, work: _Work) -> None:
        with self._lock:
            self._works.setdefault(whose, deque()).append(work)

    def take(self) -> tuple[Hashable, _Work]:
        """Give the next, and whose it is; there must be one."""
        with self._lock:
            whose = next(iter(self._works))
            work = self._works[whose].popleft()
            self._put_last(whose)
            return whose, work

    def put_last(self, whose: Hashable) -> None:
        """Let all others who wait go first."""
        with self._lock:
            self._put_last(whose)

    def _put_last(self, whose: Hashable) -> None:
        works = self._works.pop(whose, None)
        if works:
            self._works[whose] = works

    def drain(self) -> list[_Work]:
        """Give all of it."""
        with self._lock:
            works = [work for each in self._works.values() for work in each]
            self._works.clear()
            return works
