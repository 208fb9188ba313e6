"""The relay's side of the wake-up: it hears the command API's NOTIFY (outbox/notifier.py). A poll stands behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from chassis.lifecycle import wait_for_event
from chassis.outages import Outage
from chassis.postgres.listening import Listener
from chassis.settings import PostgresAddress
from outbox.notifier import OUTBOX_CHANNEL

log = structlog.get_logger("outbox.wakeup")


class WakeUp:
    """`wait(seconds)` returns when the outbox has probably grown, or the time is over."""

    def __init__(self) -> None:
        """Use `open`."""
        self._heard = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, address: PostgresAddress) -> AsyncIterator[WakeUp]:
        """Listen until the block ends."""
        wakeup = cls()
        outage = Outage(log, "outbox.listener_lost", "outbox.listening")
        # One look finds what was missed, so this wakes as a notification does.
        callbacks = {OUTBOX_CHANNEL: lambda _: wakeup.wake()}
        async with Listener(address, callbacks, application="muster relay listener", outage=outage).listen():
            yield wakeup

    def wake(self) -> None:
        """End the current or next `wait`, as a notification would."""
        self._heard.set()

    def forget(self) -> None:
        """Forget what was heard: it was sent after its commit, so a look that begins now sees what it tells of."""
        self._heard.clear()

    async def wait(self, seconds: float) -> None:
        """Return at the next notification, at once if one came since `forget`, or after the seconds."""
        await wait_for_event(self._heard, seconds)
