"""Waiting in tests: poll a condition with a deadline, never sleep and hope."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

#: How often a condition is asked; short, because a test waits for the first yes.
POLL_SECONDS = 0.01


async def until(condition: Callable[[], Awaitable[T]], *, within: float, what: str) -> T:
    """Await `condition()` until it gives something true, and return that.

    Raises:
        AssertionError: nothing true came within the seconds; the message says `what` was waited for.
    """
    deadline = time.monotonic() + within
    while True:
        result = await condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"waited {within} s in vain: {what} (last answer {result!r})"
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), POLL_SECONDS)
