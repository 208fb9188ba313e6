"""A clock that stands still while a server is silent: what a stall takes is not counted against those who wait.

From outside, a server that is frozen for a moment and one whose statements all wait for a lock look alike: nothing
comes back. Waiting helps in the first case only. So the server is asked for a sign of life, beside everything else that
it was asked: while that question is open the clock stands, and it goes on with the answer.

Guarantee: the clock stands for at most STALL_SECONDS at a time; a server that stays silent is down, and time passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

#: The longest stall that shall cost nobody an answer: a checkpoint or a moved virtual machine takes less.
STALL_SECONDS: Final = 1.0
#: A question that was lost on its way is put again after this.
_QUESTION_SECONDS: Final = 5.0

#: Told for how many seconds the clock stood.
Answered = Callable[[float], object]
#: Returns when the server has answered anything; an OSError says that it refused, or cannot be asked.
Ask = Callable[[], Awaitable[None]]


class ServerTime:
    """Seconds on the loop's clock, less those in which the server was silent."""

    def __init__(self, ask: Ask | None) -> None:
        """Nothing is asked before `doubt`; nothing ever without `ask`, as if each question were answered at once."""
        self._ask = ask
        self._asking: asyncio.Task[None] | None = None
        #: The loop's time of the open question, and how long the clock has stood before it.
        self._asked = 0.0
        self._stood = 0.0

    def now(self) -> float:
        """The time; it never goes back."""
        now = asyncio.get_running_loop().time()
        # Asked several times a statement, and nearly always while no question is open.
        return now - self._stood if self._asking is None else now - self._stood - self._standing()

    @property
    def longest_stop(self) -> float:
        """For how many seconds it may stand at a time."""
        return STALL_SECONDS if self._ask else 0.0

    def doubt(self, answered: Answered) -> None:
        """Ask for a sign of life, unless that question is open already; `answered` is called when one has come."""
        if self._ask is None:
            answered(0.0)
        elif self._asking is None:
            self._asked = asyncio.get_running_loop().time()
            self._asking = asyncio.ensure_future(self._hear(self._ask, answered))

    def close(self) -> None:
        """Ask no more."""
        if self._asking:
            self._asking.cancel()

    def _standing(self) -> float:
        if self._asking is None:
            return 0.0
        return min(asyncio.get_running_loop().time() - self._asked, STALL_SECONDS)

    async def _hear(self, ask: Ask, answered: Answered) -> None:
        try:
            while not await _hears(ask):
                pass
        finally:
            stood = self._standing()
            self._stood += stood
            self._asking = None
        answered(stood)


async def _hears(ask: Ask) -> bool:
    try:
        async with asyncio.timeout(_QUESTION_SECONDS):
            await ask()
    except TimeoutError:
        return False
    except OSError:
        # It refuses, or cannot be found: nobody who waits would be helped by waiting longer.
        pass
    return True
