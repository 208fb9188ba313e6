"""LISTEN, kept up: one connection beside any pool, which comes back by itself.

The relay and the query API are woken through it. Notifications only hasten: one may be lost with its connection, so
whoever relies on them also polls.

Guarantees: after each connection, the first included, every callback gets MISSED once, because nobody knows what was
notified before it. A connection that the server closes is replaced at once; one whose host has vanished after
PROBE_SECONDS and _PROBE_ANSWER_SECONDS. An outage is told of once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from chassis.lifecycle import Backoff, alongside, wait_for_event
from chassis.outages import Outage, describe
from chassis.postgres.database import connect, disconnect
from chassis.settings import PostgresAddress

#: A callback gets this in place of a payload when notifications may have been missed.
MISSED: Final = ""
#: A silent connection must prove this often that it still lives: a host that vanished says nothing.
PROBE_SECONDS: Final = 5.0
_PROBE_ANSWER_SECONDS: Final = 2.0
#: Waiters poll more often while there are no notifications: soon, and never later than a second.
_FIRST_RETRY_SECONDS: Final = 0.05
_LONGEST_RETRY_SECONDS: Final = 1.0
#: A standby refuses LISTEN until it is promoted, which nobody need learn sooner: polls go on.
STANDBY_SECONDS: Final = 10.0

#: Gets the payload of a notification, or MISSED.
Callback = Callable[[str], object]


class Listener:
    """Listens on channels; each has one callback."""

    def __init__(
        self, address: PostgresAddress, callbacks: Mapping[str, Callback], *, application: str, outage: Outage
    ) -> None:
        """Nothing is opened before `listen`; `outage` names what is logged when the connection is lost and back."""
        self._address = address
        self._callbacks = callbacks
        self._application = application
        self._outage = outage
        #: Whether notifications arrive now.
        self.connected = False

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[None]:
        """Listen until the block ends; the block begins at once, whether or not the server is up."""
        async with alongside(self._keep_listening()):
            yield

    async def _keep_listening(self) -> None:
        backoff = Backoff(first=_FIRST_RETRY_SECONDS, cap=_LONGEST_RETRY_SECONDS)
        while True:
            try:
                await self._listen_once(backoff)
            except asyncpg.ReadOnlySQLTransactionError:
                self._outage.failed("the server is a standby, which notifies nobody: whoever waits polls")
                await asyncio.sleep(STANDBY_SECONDS)
            except Exception as error:  # noqa: BLE001 - told, and tried again; a poll stands behind every listener
                self._outage.failed(describe(error))
            await asyncio.sleep(backoff.next())

    async def _listen_once(self, backoff: Backoff) -> None:
        connection = await connect(self._address, application=self._application)
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            for channel in self._callbacks:
                await connection.add_listener(channel, self._notified)
            self.connected = True
            backoff.reset()
            self._outage.over()
            for callback in self._callbacks.values():
                callback(MISSED)
            while not await wait_for_event(lost, PROBE_SECONDS):
                await connection.fetchval("SELECT 1", timeout=_PROBE_ANSWER_SECONDS)
        finally:
            self.connected = False
            await disconnect(connection)
        raise ConnectionError("the server closed the connection")

    def _notified(self, _connection: Any, _pid: int, channel: str, payload: object) -> None:
        self._callbacks[channel](str(payload))
