"""Waking the relay: a debounced NOTIFY after a commit, which outbox/relay/wakeup.py hears. A poll stands behind both.

The NOTIFY has a connection of its own and is never part of a command's transaction, where it would lock the whole
cluster through the commit. It may be lost, late or missing altogether: then the relay's poll finds the event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import structlog

from chassis.lifecycle import Backoff, alongside
from chassis.outages import Outage
from chassis.postgres.database import connect, describe, disconnect
from chassis.settings import PostgresAddress

log = structlog.get_logger("outbox.wakeup")

#: The relay is notified on this channel.
OUTBOX_CHANNEL: Final = "muster_outbox"
#: A process sends at most one NOTIFY in this many seconds; the relay pauses about as long between its transactions.
DEBOUNCE_SECONDS: Final = 0.005
#: Nothing has to wake the relay while the database is away.
RECONNECT_FIRST_SECONDS: Final = 0.1
RECONNECT_CAP_SECONDS: Final = 5.0


class Notifier:
    """The command API's side: it calls `notify()` after every commit."""

    def __init__(self, address: PostgresAddress) -> None:
        """Use `open`."""
        self._address = address
        self._asked = asyncio.Event()
        self._outage = Outage(log.bind(channel=OUTBOX_CHANNEL), "outbox.notify_failed", "outbox.notifying_again")

    @classmethod
    @asynccontextmanager
    async def open(cls, address: PostgresAddress, *, enabled: bool = True) -> AsyncIterator[Notifier]:
        """Notify in the background until the block ends; without `enabled` the relay depends on its poll."""
        notifier = cls(address)
        async with AsyncExitStack() as stack:
            if enabled:
                await stack.enter_async_context(alongside(notifier._keep_notifying()))
            yield notifier

    def notify(self) -> None:
        """Ask for a NOTIFY soon; returns at once and never fails."""
        self._asked.set()

    async def _keep_notifying(self) -> None:
        backoff = Backoff(first=RECONNECT_FIRST_SECONDS, cap=RECONNECT_CAP_SECONDS)
        while True:
            await self._asked.wait()
            try:
                await self._notify_while_connected(backoff)
            except Exception as error:  # noqa: BLE001 - logged, and tried again; the relay's poll stands behind it
                self._outage.failed(describe(error))
            await asyncio.sleep(backoff.next())

    async def _notify_while_connected(self, backoff: Backoff) -> None:
        # A notification is worth nothing once the server has died, so its commit need not wait for the disk.
        connection = await connect(self._address, application="muster notifier", synchronous_commit="off")
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                await connection.execute(f"NOTIFY {OUTBOX_CHANNEL}")
                backoff.reset()
                self._outage.over()
                await asyncio.sleep(DEBOUNCE_SECONDS)
        finally:
            await disconnect(connection)
