"""A transactional producer that sends nothing more once a broker's connection is lost, and can be discarded at once.

aiokafka's own goes on: its sender retries for ever, in the background even after `stop()` was given up, and rides
through a broker's restart without a word. Two things speak against that here. A broker that died may have left a
transaction hanging (outbox/publishing/hanging.py), and whatever is sent before somebody has looked could decide its
result wrongly. And a relay that cannot publish is not ready, which an idle one learns only from its connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NoReturn

from aiokafka import AIOKafkaProducer
from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError

#: Ways in which a connection ends that say nothing about the broker.
_HARMLESS: Final = frozenset({CloseReason.IDLE_DROP, CloseReason.SHUTDOWN})
#: A cancelled sender ends within its longest pause between two tries, 0.1 s.
_SENDER_SECONDS: Final = 2.0


class ConnectionLostError(KafkaConnectionError):  # type: ignore[misc]  # aiokafka has no types
    """A connection to a broker ended: what hangs there must be looked for before anything else is sent."""


class Producer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka has no types
    """Adds `lost` and `discard` to aiokafka's producer; both lean on internals named in docs/decisions/0017."""

    def __init__(self, *, when_lost: Callable[[], None], **arguments: Any) -> None:
        """Take aiokafka's arguments; `when_lost` is called when `lost` is set."""
        super().__init__(**arguments)
        self._when_lost = when_lost
        #: Set once a connection to a broker has ended; then nothing is sent any more.
        self.lost = asyncio.Event()
        self._note_closed = self.client._on_connection_closed  # noqa: SLF001 - see above
        self.client._on_connection_closed = self._on_closed  # noqa: SLF001 - see above

    async def discard(self) -> None:
        """Close every connection and end the sender, whatever it does; the next producer settles what it left open."""
        self._refuse_requests()
        self._closed = True
        sender = self._sender.sender_task
        if sender is not None:
            sender.cancel()
            await asyncio.wait([sender], timeout=_SENDER_SECONDS)
        await self.client.close()

    def _on_closed(self, connection: Any, reason: CloseReason | None) -> None:
        if reason not in _HARMLESS:
            # This happens in the turn of the loop that sees the end: the sender may be about to send a request.
            self._refuse_requests()
            self.lost.set()
            self._when_lost()
        self._note_closed(connection, reason)

    def _refuse_requests(self) -> None:
        self.client.send = _refuse


async def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise KafkaError("this producer was discarded")
