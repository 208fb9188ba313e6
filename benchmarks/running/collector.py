"""A collector of traces that takes everything and keeps nothing but the number of bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from local_stack.ports import free_port

#: Of the traces, as the bar has it.
RECORDED_SHARE: Final = 0.1
_TAKEN: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_LENGTH: Final = b"content-length:"


class Collector:
    """What came so far."""

    def __init__(self, port: int) -> None:
        """It listens on `port`."""
        self.taken_bytes = 0
        self.port = port

    @property
    def variables(self) -> dict[str, str]:
        """The settings of an app that sends its traces here."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(RECORDED_SHARE),
        }

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(_LENGTH))
                body = await reader.readexactly(int(length.removeprefix(_LENGTH)))
                self.taken_bytes += len(body)
                writer.write(_TAKEN)
        except asyncio.IncompleteReadError:
            writer.close()


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector in this process, which load comes from as well."""
    collector = Collector(free_port())
    async with await asyncio.start_server(collector.take, "127.0.0.1", collector.port):
        yield collector
