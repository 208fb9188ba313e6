"""Sending spans to a collector: beside the work, in batches, and never in its way.

What ends is queued, and nothing else; one task encodes many at once, which is cheaper than each among a request's own
work, and sends them. A collector that is away, slow or full costs spans and nothing more: the queue has an end, and
what comes then is counted and left out. The log has one line when that begins and one when it ends. A batch that a
collector asks to have later is sent again; one that it refuses is dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter

from chassis.lifecycle import alongside, wait_for_event
from chassis.outages import Outage, describe
from chassis.tracing.otlp import encode_request, encode_span
from chassis.tracing.spans import Span

if TYPE_CHECKING:
    from httpx import AsyncClient

log = structlog.get_logger("tracing")

#: The specification's own figures for a batch span processor.
QUEUE_SPANS: Final = 2048
BATCH_SPANS: Final = 512
DELAY_SECONDS: Final = 5.0
#: A tenth of a millisecond; then requests have their turn.
ENCODED_AT_ONCE: Final = 32
#: One request, its connection included.
SEND_SECONDS: Final = 10.0
#: What is left when the process ends is sent once more, if that does not take longer than this.
END_SECONDS: Final = 2.0
#: "Later" (OTLP specification, "Failures"); every other refusal is for good.
_LATER: Final = frozenset({429, 502, 503, 504})
_SCOPE: Final = "muster"

_LOST: Final = Counter("muster_spans_lost_total", "Spans that no collector took.", ["reason"])


class Exporter:
    """The spans of one process on their way; used in one event loop."""

    def __init__(self, url: str, *, headers: Mapping[str, str], resource: bytes) -> None:
        """Nothing is connected before `open`; `resource` is encoded."""
        self._url = url
        self._headers = {**headers, "content-type": "application/x-protobuf"}
        self._resource = resource
        self._queue: deque[tuple[Span, int]] = deque()
        self._batch: list[bytes] = []
        self._enough = asyncio.Event()
        self._outage = Outage(log, "tracing.collector_unavailable", "tracing.collector_available")

    def record(self, span: Span, end: int) -> None:
        """Queue a span that has ended."""
        if len(self._queue) >= QUEUE_SPANS:
            _LOST.labels("queue-full").inc()
            return
        self._queue.append((span, end))
        if len(self._queue) >= BATCH_SPANS:
            self._enough.set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Send until the block ends, and then what is left."""
        client = await asyncio.to_thread(_make_client)
        async with client:
            async with alongside(self._run(client)):
                yield
            with suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await self._send_all(client)
        _LOST.labels("stopped").inc(len(self._batch) + len(self._queue))

    async def _run(self, client: AsyncClient) -> None:
        while True:
            await wait_for_event(self._enough, DELAY_SECONDS)
            if await self._send_all(client):
                self._enough.clear()
            else:
                # However full the queue is.
                await asyncio.sleep(DELAY_SECONDS)

    async def _send_all(self, client: AsyncClient) -> bool:
        """Send what is queued, batch by batch; False where the collector does not take it now."""
        while self._batch or self._queue:
            while self._queue and len(self._batch) < BATCH_SPANS:
                self._batch.append(encode_span(*self._queue.popleft()))
                if len(self._batch) % ENCODED_AT_ONCE == 0:
                    await asyncio.sleep(0)
            if not await self._send(client):
                return False
            self._batch.clear()
        return True

    async def _send(self, client: AsyncClient) -> bool:
        """Send the batch; False where it is to be sent again."""
        try:
            request = encode_request(self._resource, _SCOPE, self._batch)
            answer = await client.post(self._url, content=request, headers=self._headers)
        except Exception as error:  # noqa: BLE001 - whatever a collector's absence is, it must not end the process
            # One line an outage, whatever its errors say from try to try.
            self._outage.failed(self._outage.reason or describe(error))
            return False
        if answer.is_success:
            self._outage.over()
            return True
        self._outage.failed(f"the collector answered {answer.status_code}")
        if answer.status_code in _LATER:
            return False
        _LOST.labels("refused").inc(len(self._batch))
        return True


def _make_client() -> AsyncClient:
    """In a thread: the import and the authorities that it reads take up to a quarter of a second."""
    from httpx import AsyncClient  # noqa: PLC0415 - a process without a collector does not pay for it

    # No proxy of the environment sees what is sent in clear, such as the collector's key in its headers.
    return AsyncClient(timeout=SEND_SECONDS, follow_redirects=False, mounts={"http://": None})
