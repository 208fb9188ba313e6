"""What goes out on a connection: answers, and what shows whether their reader is slow or has left."""

from __future__ import annotations

import asyncio
from typing import Final

from chassis.http.transport.limits import Pace

#: What every answer begins with.
_BEGINNING: Final = b"HTTP/1.1 "


class Outlet:
    """The way out to one client."""

    def __init__(self, transport: asyncio.Transport, bytes_per_second: int) -> None:
        """`bytes_per_second` is the least rate at which the client is to read."""
        self._transport = transport
        self._pace = Pace(bytes_per_second)
        self._written = 0
        #: Bytes of `_BEGINNING` that went ahead of the answer.
        self._sent_ahead = 0
        #: While the client reads more slowly than we write: set when it has caught up.
        self.room: asyncio.Event | None = None

    def write(self, data: bytes) -> None:
        """Send, unless the connection ends."""
        if self._sent_ahead:
            self._sent_ahead, data = 0, data[self._sent_ahead :]
        if not self._transport.is_closing():
            self._written += len(data)
            self._transport.write(data)

    def send_ahead(self) -> None:
        """Send a byte of an answer ahead: who has left answers the first with a reset, on which the next one fails."""
        if self._sent_ahead < len(_BEGINNING):
            self._transport.write(_BEGINNING[self._sent_ahead : self._sent_ahead + 1])
            self._sent_ahead += 1

    def is_read_in_time(self) -> bool:
        """Whether the client takes what was sent at the least rate."""
        waiting = self._transport.get_write_buffer_size()
        return self._pace.is_kept(self._written - waiting, is_due=waiting > 0)

    def fill(self) -> None:
        """The client reads more slowly than we write."""
        self.room = asyncio.Event()

    def clear(self) -> None:
        """It has caught up, or left."""
        if self.room:
            self.room.set()
            self.room = None
