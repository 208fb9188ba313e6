"""A TCP proxy before PostgreSQL that has a chosen statement refused with a chosen SQLSTATE, by PostgreSQL itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Self

from chassis.settings import PostgresAddress

CHUNK = 1 << 16
#: How what a driver sends for a statement begins: Parse, Bind, Query. The driver sends it in one piece. PostgreSQL
#: refuses no ROLLBACK.
STATEMENTS = (b"P", b"B", b"Q")
PREPARING = (b"P", b"Q")
FLUSH = b"H\0\0\0\4"
SYNC = b"S\0\0\0\4"
#: One of each class that means "later", and the others that do.
LATER = (
    "08006", "25006", "25P03", "25P04", "28000", "3D000", "40001", "40P01", "53100", "55P03", "57014", "57P01", "58030",
)  # fmt: skip
#: More than anything has that is attempted.
MOST_STATEMENTS = 60
#: What may be begun again at once.
ROLLED_BACK = {"40001", "40P01", "55P03"}


class RefusingProxy:
    """Passes everything on, but for the statement that `refuse` names."""

    def __init__(self, target: PostgresAddress, kinds: tuple[bytes, ...] = STATEMENTS) -> None:
        """`kinds` are the messages that count; those of PREPARING suffice where each connection is a new one."""
        self.target = target
        self._kinds = kinds
        self.address = target
        #: Every statement that came, as it was written.
        self.texts: set[str] = set()
        #: How many are passed on before one is refused; None for all.
        self.left: int | None = None
        self._state = ""
        self._synced: set[object] = set()
        self._pairs: set[asyncio.Task[None]] = set()

    def refuse(self, number: int, state: str) -> None:
        """Have the statement of this number from now on, the first being 1, refused with this SQLSTATE."""
        self.left, self._state = number - 1, state

    @property
    def has_refused(self) -> bool:
        """Whether it came to that; if not, it will not come to it any more."""
        reached, self.left = self.left is None, None
        return reached

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Self]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = replace(self.target, server="127.0.0.1", port=server.sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            server.close()
            # Whoever was accepted just now has not begun yet; and transports that are aborted close in the next turn.
            await asyncio.sleep(0)
            while self._pairs:
                pairs = list(self._pairs)
                for pair in pairs:
                    pair.cancel()
                await asyncio.gather(*pairs, return_exceptions=True)
                self._pairs.difference_update(pairs)
            await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        try:
            there_reader, there_writer = await asyncio.open_connection(self.target.server, self.target.port)
        except BaseException:
            writer.transport.abort()
            raise
        back = asyncio.create_task(_pass_on(there_reader, writer))
        try:
            with suppress(OSError, asyncio.CancelledError):
                while data := await reader.read(CHUNK):
                    there_writer.write(self._judged(data, reader))
                    await there_writer.drain()
        finally:
            # Before anything is awaited, which may be cancelled.
            for end in (there_writer, writer):
                end.transport.abort()
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            self._pairs.discard(task)

    def _judged(self, data: bytes, connection: object) -> bytes:
        """What is passed on instead of it: a statement that fails."""
        if connection in self._synced and data.startswith(SYNC):
            self._synced.discard(connection)
            data = data.removeprefix(SYNC)
        if data[:1] in PREPARING:
            # What is prepared has a name first.
            self.texts.add(data[5:].split(b"\0")[data[:1] == b"P"].decode())
        if self.left is None or data[:1] not in self._kinds or b"ROLLBACK" in data:
            return data
        if self.left:
            self.left -= 1
            return data
        self.left = None
        # The driver asks for the end of a Parse that failed; that of our statement came with it.
        if data.endswith(FLUSH):
            self._synced.add(connection)
        failing = f"DO $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{self._state}'; END $$".encode()
        return b"Q" + (len(failing) + 5).to_bytes(4) + failing + b"\0"


async def refuse_all(proxy: RefusingProxy, attempt: Callable[[], Awaitable[None]]) -> int:
    """Attempt something with each of its statements refused with each of LATER, and at last with none refused.

    Returns how many statements it has.
    """
    for number in range(1, MOST_STATEMENTS):
        for state in LATER:
            proxy.refuse(number, state)
            await attempt()
            if not proxy.has_refused:
                assert state == LATER[0], "it had another number of statements before"
                return number - 1
    raise AssertionError("it has no end")


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.close()
