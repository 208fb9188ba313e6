"""A transactional producer that never sends again once a broker's connection is lost, and can be discarded at once.

aiokafka's own goes on: its sender tries again for ever, in the background even after `stop()` was given up, and rides
through a broker's restart without a word. Two things speak against that here. A broker that died may have left a
transaction hanging (outbox/publishing/hanging.py), and whatever is sent before somebody has looked could decide its
outcome wrongly. And a relay that may publish nothing is not ready, which an idle one learns from its connections alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NoReturn

from aiokafka import AIOKafkaProducer
from aiokafka.client import CoordinationType
from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.producer.sender import BACKOFF_OVERRIDE, AddPartitionsToTxnHandler

#: Ways in which a connection ends that say nothing about the broker.
_HARMLESS: Final = frozenset({CloseReason.IDLE_DROP, CloseReason.SHUTDOWN})
#: How soon a transaction is begun again that the broker refused because it is still writing the last one's markers:
#: aiokafka waits 20 ms, which takes many times longer than they do.
MARKERS_SECONDS: Final = 0.002
#: A cancelled sender ends within its longest pause between two tries, 0.1 s.
_SENDER_SECONDS: Final = 2.0


class Producer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka has no types
    """As aiokafka's, with `lost` and `discard`; both lean on internals named in docs/decisions/0017."""

    def __init__(self, *, when_lost: Callable[[], None], **arguments: Any) -> None:
        """As aiokafka's; `when_lost` is called when `lost` is set."""
        super().__init__(**arguments)
        self._when_lost = when_lost
        #: Set once a connection to a broker has ended; then nothing is sent any more.
        self.lost = asyncio.Event()
        self._note_closed = self.client._on_connection_closed  # noqa: SLF001 - see above
        self.client._on_connection_closed = self._on_closed  # noqa: SLF001 - see above
        self._sender._do_add_partitions_to_txn = self._add_partitions  # noqa: SLF001 - see above

    async def discard(self) -> None:
        """Close every connection and end the sender, whatever it was at; what it left open the next one settles."""
        self._refuse_requests()
        self._closed = True
        sender = self._sender.sender_task
        if sender is not None:
            sender.cancel()
            await asyncio.wait([sender], timeout=_SENDER_SECONDS)
        await self.client.close()

    async def _add_partitions(self, partitions: Any) -> bool:
        sender = self._sender
        coordinator = await sender._find_coordinator(  # noqa: SLF001 - as aiokafka's own, with another handler
            CoordinationType.TRANSACTION, self._txn_manager.transactional_id
        )
        added: bool = await _AddPartitions(sender, partitions).do(coordinator)
        return added

    def _on_closed(self, connection: Any, reason: CloseReason | None) -> None:
        if reason not in _HARMLESS:
            # At once, in the loop's very turn that sees the end: the sender may have a request up its sleeve.
            self._refuse_requests()
            self.lost.set()
            self._when_lost()
        self._note_closed(connection, reason)

    def _refuse_requests(self) -> None:
        self.client.send = _refuse


class _AddPartitions(AddPartitionsToTxnHandler):  # type: ignore[misc]  # aiokafka has no types
    """As aiokafka's, but not so patient while markers are being written."""

    def handle_response(self, response: Any) -> float | None:
        """Say how long to wait before the next try; None when the partitions were added."""
        seconds: float | None = super().handle_response(response)
        return MARKERS_SECONDS if seconds == BACKOFF_OVERRIDE else seconds


async def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise KafkaError("this producer was discarded")


class ConnectionLostError(KafkaConnectionError):  # type: ignore[misc]  # aiokafka has no types
    """A connection to a broker ended: what hangs there must be looked for before anything else is sent."""
