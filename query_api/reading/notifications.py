"""One connection that listens for what projectors announce, beside the pool; it comes back by itself.

Notifications only hasten: whoever relies on them also polls (serving.py, arrivals.py), so a lost one costs a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import structlog

from chassis.lifecycle import Backoff, end, wait_for_event
from chassis.postgres.database import INFRASTRUCTURE_ERRORS, connect, describe, disconnect
from chassis.settings import PostgresAddress

log = structlog.get_logger("notifications")

#: How often a silent connection must prove that it still lives: a host that vanished says nothing.
PROBE_SECONDS: Final = 5.0
_PROBE_ANSWER_SECONDS: Final = 2.0
_FIRST_RETRY_SECONDS: Final = 0.05
_LONGEST_RETRY_SECONDS: Final = 1.0

_FAILURES: tuple[type[Exception], ...] = (asyncpg.PostgresError, *INFRASTRUCTURE_ERRORS)

Callback = Callable[[str], None]


class Listener:
    """Listens on channels; each callback gets the payload, or the empty text when something may have been missed."""

    def __init__(self, address: PostgresAddress, callbacks: Mapping[str, Callback], *, application: str) -> None:
        """Nothing is opened before `listen`."""
        self._address = address
        self._callbacks = callbacks
        self._application = application
        self.connected = False
        #: Whether the log's last word is that notifications do not arrive.
        self._interrupted = False

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[None]:
        """Listen until the block ends; returns at once, whether or not the server is up."""
        task = asyncio.create_task(self._keep_listening())
        try:
            yield
        finally:
            await end(task)

    async def _keep_listening(self) -> None:
        backoff = Backoff(first=_FIRST_RETRY_SECONDS, cap=_LONGEST_RETRY_SECONDS)
        while True:
            reason = "the server closed the connection"
            try:
                await self._listen_once(backoff)
            except _FAILURES as error:
                reason = describe(error)
            self.connected = False
            # Once per change: an outage of an hour is not worth 3,600 lines.
            if not self._interrupted:
                log.warning("notifications.interrupted", reason=reason)
            self._interrupted = True
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
            if self._interrupted:
                log.info("notifications.resumed")
            self._interrupted = False
            self._tell_all()
            while not await wait_for_event(lost, PROBE_SECONDS):
                await connection.fetchval("SELECT 1", timeout=_PROBE_ANSWER_SECONDS)
        finally:
            await disconnect(connection)

    def _notified(self, _connection: Any, _pid: int, channel: str, payload: object) -> None:
        self._callbacks[channel](str(payload))

    def _tell_all(self) -> None:
        for callback in self._callbacks.values():
            callback("")
