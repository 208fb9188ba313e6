"""Runs a process that is not a web application: until SIGTERM or SIGINT, then it finishes what it began."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import structlog

log = structlog.get_logger("lifecycle")

Main = Callable[[asyncio.Event], Awaitable[int]]
T = TypeVar("T")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop's, where that is installed."""
    try:
        import uvloop  # noqa: PLC0415 - the console does without
    except ImportError:  # Windows has no uvloop
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run_until_stopped(main: Main) -> int:
    """Run `main(stopping)` and return its exit code; 130 when a second signal cut it short.

    `stopping` is set by the first SIGTERM or SIGINT: `main` then finishes what it began and returns. A second signal
    cancels it.
    """
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_until_told(main))


async def _until_told(main: Main) -> int:
    stopping = asyncio.Event()
    task = asyncio.ensure_future(main(stopping))
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        if stopping.is_set():
            task.cancel()
        log.info("process.stopping", signal=number.name)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        return 130


def freeze_loaded_objects(young_objects: int | None = None) -> None:
    """Keep the cyclic garbage collector off everything that is loaded by now; for the entry points of processes.

    These are half a million objects, nearly all of them code that stays. Looking through them stops everything for 60
    milliseconds, and under load the collector did so every other second.

    `young_objects` is for a process whose batches or answers are made of many objects: the collector starts only once
    so many are new (Python's default is 700, from 3.13 on 2,000). Otherwise it would walk through each batch or answer
    for nothing, since reference counting frees them.
    """
    gc.collect()
    gc.freeze()
    if young_objects:
        gc.set_threshold(young_objects, 20, 100)


def usable_cores() -> int:
    """The cores this process may run on, which taskset and container schedulers can make fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@asynccontextmanager
async def alongside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run work beside the block and cancel it at the block's end.

    Only the block's own error or cancellation comes out. An error of the work does not, so work that may fail logs it.
    """
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def end_task(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended; raises what it failed with.

    Unlike awaiting the task, this lets the caller's own cancellation through.
    """
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def wait_at_most(work: Awaitable[T], seconds: float) -> T:
    """Await this for so long at most; a cancellation of who awaits it always comes out.

    Not `asyncio.wait_for`: before Python 3.12 that forgets a cancellation that comes together with the answer
    (https://bugs.python.org/issue42130), and who was to stop goes on for ever. Nor in the caller's own task: aiokafka's
    `stop` swallows a cancellation of the task that it runs in.

    Raises:
        TimeoutError: it took longer, and was cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if not done:
        raise TimeoutError
    return task.result()


async def wait_for_event(event: asyncio.Event, seconds: float) -> bool:
    """Wait until `event` is set or the seconds have passed; says whether it is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


class Backoff:
    """Growing delays with full jitter, for retries that many processes make at once.

    Source: "Exponential Backoff And Jitter", M. Brooker, AWS Architecture Blog, 2015.
    """

    def __init__(self, *, first: float, cap: float, rng: random.Random | None = None) -> None:
        """The first delay is at most `first` seconds; the limit doubles with each, up to `cap` seconds."""
        self._first = first
        self._cap = cap
        self._limit = first
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing

    def next(self) -> float:
        """The next delay in seconds, at least a tenth of its limit so that a loop never spins."""
        limit = self._limit
        self._limit = min(limit * 2, self._cap)
        return self._rng.uniform(limit / 10, limit)

    def reset(self) -> None:
        """Begin again at `first`, after a success."""
        self._limit = self._first
