"""Waking the relay: a debounced NOTIFY after commit, and the relay's ear for it. A poll stands behind both.

The NOTIFY goes out on a connection of its own and never inside a command's transaction, where it takes a lock for the
whole cluster through the commit. It may be lost, late or missing altogether: then the relay's poll finds the event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg
import structlog

from chassis.database import INFRASTRUCTURE_ERRORS, connect, describe, disconnect
from chassis.lifecycle import Backoff, wait_for_event
from chassis.settings import PostgresAddress

log = structlog.get_logger("outbox.wakeup")

CHANNEL: Final = "muster_outbox"
#: At most one NOTIFY in this many seconds and process: the relay leaves as long between its transactions.
DEBOUNCE_SECONDS: Final = 0.005
#: While the database is away there is nothing to wake the relay for.
RECONNECT_FIRST_SECONDS: Final = 0.1
RECONNECT_CAP_SECONDS: Final = 5.0
#: How often a listener makes sure that somebody still listens to it.
CHECK_SECONDS: Final = 30.0

#: A session can be refused for other reasons than an outage (too few rights, say): to be told, and tried again.
_ERRORS: Final[tuple[type[Exception], ...]] = (*INFRASTRUCTURE_ERRORS, asyncpg.PostgresError)


class Notifier:
    """The command API's side: `notify()` after every commit, as often as one likes."""

    def __init__(self, address: PostgresAddress) -> None:
        """Use `open`."""
        self._address = address
        self._asked = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, address: PostgresAddress, *, enabled: bool = True) -> AsyncIterator[Notifier]:
        """Notify in the background until the block ends; with `enabled` off the relay lives by its poll."""
        notifier = cls(address)
        task = asyncio.create_task(notifier._run()) if enabled else None
        try:
            yield notifier
        finally:
            if task:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def notify(self) -> None:
        """Ask for a NOTIFY soon; returns at once and never fails."""
        self._asked.set()

    async def _run(self) -> None:
        backoff = Backoff(first=RECONNECT_FIRST_SECONDS, cap=RECONNECT_CAP_SECONDS)
        while True:
            await self._asked.wait()
            try:
                await self._notify_while_connected(backoff)
            except _ERRORS as error:
                log.warning("outbox.notify_failed", error=describe(error))
            await asyncio.sleep(backoff.next())

    async def _notify_while_connected(self, backoff: Backoff) -> None:
        # The answer to a NOTIFY is worth nothing if the server dies: do not wait for its flush.
        connection = await connect(self._address, application="muster notifier", synchronous_commit="off")
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                await connection.execute(f"NOTIFY {CHANNEL}")
                backoff.reset()
                await asyncio.sleep(DEBOUNCE_SECONDS)
        finally:
            await disconnect(connection)


class Listener:
    """The relay's side: `wait(seconds)` returns when the outbox has probably grown, or the time is over."""

    def __init__(self, address: PostgresAddress) -> None:
        """Use `open`."""
        self._address = address
        self._heard = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, address: PostgresAddress) -> AsyncIterator[Listener]:
        """Listen until the block ends; a lost connection is noticed and made again."""
        listener = cls(address)
        task = asyncio.create_task(listener._run())
        try:
            yield listener
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def wake(self) -> None:
        """End the current or next `wait`, as a notification would."""
        self._heard.set()

    async def wait(self, seconds: float) -> None:
        """Return at the next notification, at once if one came since the last call, or after the seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._heard.wait(), seconds)
        self._heard.clear()

    async def _run(self) -> None:
        backoff = Backoff(first=RECONNECT_FIRST_SECONDS, cap=RECONNECT_CAP_SECONDS)
        while True:
            try:
                await self._listen(backoff)
            except _ERRORS as error:
                log.warning("outbox.listener_lost", error=describe(error))
            await asyncio.sleep(backoff.next())

    async def _listen(self, backoff: Backoff) -> None:
        connection = await connect(self._address, application="muster relay listener")
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, self._on_notify)
            log.info("outbox.listening", channel=CHANNEL)
            backoff.reset()
            # What was notified while nobody listened is found by looking once.
            self.wake()
            # A connection that was dropped without a word shows only when it is used.
            while not await wait_for_event(lost, CHECK_SECONDS):
                await connection.execute("SELECT 1")
        finally:
            await disconnect(connection)
        raise ConnectionError("the server closed the listener's connection")

    def _on_notify(self, *_: Any) -> None:
        self._heard.set()
