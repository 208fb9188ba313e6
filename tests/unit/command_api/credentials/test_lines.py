"""Who waits for whom with an attempt, who is refused together, and how many may wait."""

import asyncio

import pytest

from command_api.credentials.attempts import TooManyAttemptsError
from command_api.credentials.lines import AT_ONCE, RETRY_SECONDS, WAITING, Lines

REFUSED = 60


class Attempts:
    """Attempts that end when they are let."""

    def __init__(self) -> None:
        self.lines = Lines()
        self.running = 0
        self.may_end = asyncio.Event()

    async def attempt(self, whose: str, *, one_counter: bool = True, refused: bool = False) -> int:
        """0 for one that was let in, or the seconds of its refusal."""
        try:
            async with self.lines.turn(whose, one_counter=one_counter):
                self.running += 1
                await self._end(refused=refused)
        except TooManyAttemptsError as error:
            return error.seconds
        return 0

    async def _end(self, *, refused: bool) -> None:
        await self.may_end.wait()
        if refused:
            raise TooManyAttemptsError(REFUSED)

    async def end(self, *attempts: "asyncio.Task[int]") -> list[int]:
        """What became of them once all may end."""
        await asyncio.sleep(0)
        self.may_end.set()
        return await asyncio.gather(*attempts)


async def test_a_few_run_at_a_time_and_a_flood_is_refused_at_once() -> None:
    those = Attempts()
    flood = [asyncio.create_task(those.attempt("ann")) for _ in range(AT_ONCE + WAITING + 3)]
    other = asyncio.create_task(those.attempt("bob"))
    await asyncio.sleep(0)

    assert those.running == AT_ONCE + 1
    found = await those.end(*flood, other)

    assert found == [0] * (AT_ONCE + WAITING) + [RETRY_SECONDS] * 3 + [0]


@pytest.mark.parametrize(("one_counter", "waiting"), [(True, REFUSED), (False, 0)], ids=["an identifier", "devices"])
async def test_who_waits_on_a_counter_is_refused_with_it(one_counter: bool, waiting: int) -> None:
    those = Attempts()
    running = [asyncio.create_task(those.attempt("ann", one_counter=one_counter, refused=True)) for _ in range(AT_ONCE)]
    behind = [asyncio.create_task(those.attempt("ann", one_counter=one_counter)) for _ in range(2)]

    assert await those.end(*running, *behind) == [REFUSED] * AT_ONCE + [waiting] * 2
