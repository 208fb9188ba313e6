"""A clock that stands still while a server is silent, so that nobody is refused for what a stall takes.

From outside, a server that is frozen for a moment looks like one whose statements all wait for a lock: nothing comes
back. Waiting helps only in the first case. So the server is asked for a sign of life, on a connection of its own. While
that question is open the clock stands; with the answer it goes on.

Guarantee: the clock stands for at most STALL_SECONDS at a time; a server that stays silent is down, and time passes.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Final

from chassis.postgres.servers import served_last
from chassis.settings import PostgresAddress

#: The longest stall that shall cost nobody an answer: a checkpoint or a moved virtual machine takes less.
STALL_SECONDS: Final = 1.0
#: A question that was lost on its way is put again after this.
_QUESTION_SECONDS: Final = 5.0
#: SSLRequest: its length and its code (PostgreSQL's documentation, "Message Formats").
_SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)

#: Told for how many seconds the clock stood.
Answered = Callable[[float], object]
#: Returns when the server has answered anything; an OSError says that it refused, or cannot be asked.
Ask = Callable[[], Awaitable[None]]


async def sign_of_life(address: PostgresAddress) -> None:
    """Return once the server has answered anything at all.

    PostgreSQL tells anybody with one byte, before any session, whether it speaks TLS. A server that is merely busy, or
    out of connections, does so too; a frozen one does not. Of several servers the one that served last is asked.

    Raises:
        OSError: nobody listens there.
    """
    reader, writer = await asyncio.open_connection(*served_last(address))
    try:
        writer.write(_SSL_REQUEST)
        await reader.read(1)
    finally:
        writer.close()


class ServerTime:
    """Seconds on the loop's clock, less those in which the server was silent."""

    def __init__(self, ask: Ask) -> None:
        """Nothing is asked before `doubt`."""
        self._ask = ask
        self._asking: asyncio.Task[None] | None = None
        #: The loop's time of the open question, and how long the clock has stood before it.
        self._asked = 0.0
        self._stood = 0.0

    def now(self) -> float:
        """The time; it never goes back."""
        now = asyncio.get_running_loop().time()
        # Called several times a statement, and nearly always while no question is open.
        return now - self._stood if self._asking is None else now - self._stood - self._standing()

    def doubt(self, answered: Answered) -> None:
        """Ask for a sign of life, unless that question is open already; `answered` is called when one has come."""
        if self._asking is None:
            self._asked = asyncio.get_running_loop().time()
            self._asking = asyncio.ensure_future(self._wait_for_answer(answered))

    def close(self) -> None:
        """Ask no more."""
        if self._asking:
            self._asking.cancel()

    def _standing(self) -> float:
        return min(asyncio.get_running_loop().time() - self._asked, STALL_SECONDS)

    async def _wait_for_answer(self, answered: Answered) -> None:
        try:
            while not await _answers(self._ask):
                pass
        finally:
            stood = self._standing()
            self._stood += stood
            self._asking = None
        answered(stood)


async def _answers(ask: Ask) -> bool:
    try:
        async with asyncio.timeout(_QUESTION_SECONDS):
            await ask()
    except TimeoutError:
        return False
    except OSError:
        # It refuses, or cannot be found: waiting longer would help nobody.
        pass
    return True
