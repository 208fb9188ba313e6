"""Waking the relay: a debounced NOTIFY after commit, which outbox/relay/wakeup.py hears. A poll stands behind both.

The NOTIFY goes out on a connection of its own and never inside a command's transaction, where it takes a lock for the
whole cluster through the commit. It may be lost, late or missing altogether: then the relay's poll finds the event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import structlog

from chassis.lifecycle import Backoff, alongside
from chassis.postgres.database import connect, describe, disconnect
from chassis.settings import PostgresAddress

log = structlog.get_logger("outbox.wakeup")

CHANNEL: Final = "muster_outbox"
#: At most one NOTIFY in this many seconds and process: the relay leaves as long between its transactions.
DEBOUNCE_SECONDS: Final = 0.005
#: While the database is away there is nothing to wake the relay for.
RECONNECT_FIRST_SECONDS: Final = 0.1
RECONNECT_CAP_SECONDS: Final = 5.0


class _Trouble:
    """Tells of a failure once, not at every try: again when it has become another one, or was over meanwhile."""

    def __init__(self, event: str) -> None:
        """`event` names the line in the log."""
        self._event = event
        self._told: str | None = None

    def failed(self, error: Exception) -> None:
        """A try has failed."""
        words = describe(error)
        if words != self._told:
            log.warning(self._event, error=words)
        self._told = words

    def over(self) -> bool:
        """A try has succeeded; says whether the ones before it had not."""
        was_told, self._told = self._told is not None, None
        return was_told


class Notifier:
    """The command API's side: `notify()` after every commit, as often as one likes."""

    def __init__(self, address: PostgresAddress) -> None:
        """Use `open`."""
        self._address = address
        self._asked = asyncio.Event()
        self._trouble = _Trouble("outbox.notify_failed")

    @classmethod
    @asynccontextmanager
    async def open(cls, address: PostgresAddress, *, enabled: bool = True) -> AsyncIterator[Notifier]:
        """Notify in the background until the block ends; with `enabled` off the relay lives by its poll."""
        notifier = cls(address)
        async with AsyncExitStack() as stack:
            if enabled:
                await stack.enter_async_context(alongside(notifier._run()))
            yield notifier

    def notify(self) -> None:
        """Ask for a NOTIFY soon; returns at once and never fails."""
        self._asked.set()

    async def _run(self) -> None:
        backoff = Backoff(first=RECONNECT_FIRST_SECONDS, cap=RECONNECT_CAP_SECONDS)
        while True:
            await self._asked.wait()
            try:
                await self._notify_while_connected(backoff)
            except Exception as error:  # noqa: BLE001 - told, and tried again; the relay's poll stands behind it
                self._trouble.failed(error)
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
                if self._trouble.over():
                    log.info("outbox.notifying_again", channel=CHANNEL)
                await asyncio.sleep(DEBOUNCE_SECONDS)
        finally:
            await disconnect(connection)
