"""Who waits for whom with an attempt, who is refused together, and how many may wait."""

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager

from command_api.credentials.attempts.lines import (
    AT_ONCE,
    DEVICE_AT_ONCE,
    DEVICE_WAITING,
    RETRY_SECONDS,
    WAITING,
    Lines,
)
from command_api.credentials.attempts.rule import TooManyAttemptsError

REFUSED = 60
OF_A_DEVICE = DEVICE_AT_ONCE + DEVICE_WAITING


class Attempts:
    """Attempts that end when they are let."""

    def __init__(self) -> None:
        self.lines = Lines()
        self.running: list[str] = []
        self.may_end = asyncio.Event()

    def attempt(self, whose: str, *, refused: bool = False) -> Coroutine[None, None, int]:
        return self._attempt(whose, self.lines.turn(whose), refused=refused)

    def of_device(self, device: str, account: str = "ann", *, refused: bool = False) -> Coroutine[None, None, int]:
        return self._attempt(device, self.lines.turn_of_device(device, account), refused=refused)

    async def _attempt(self, who: str, turn: AbstractAsyncContextManager[None], *, refused: bool) -> int:
        """0 for one that was let in, or the seconds of its refusal."""
        try:
            async with turn:
                self.running.append(who)
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

    assert len(those.running) == AT_ONCE + 1
    found = await those.end(*flood, other)

    assert found == [0] * (AT_ONCE + WAITING) + [RETRY_SECONDS] * 3 + [0]
    assert not those.lines._lines, "an empty line is forgotten"


async def test_who_waits_on_a_counter_is_refused_with_it() -> None:
    those = Attempts()
    running = [asyncio.create_task(those.attempt("ann", refused=True)) for _ in range(AT_ONCE)]
    behind = [asyncio.create_task(those.attempt("ann")) for _ in range(2)]

    assert await those.end(*running, *behind) == [REFUSED] * (AT_ONCE + 2)


async def test_a_device_is_refused_with_itself_and_not_with_another_of_its_account() -> None:
    those = Attempts()
    running = [asyncio.create_task(those.of_device("stolen", refused=True)) for _ in range(DEVICE_AT_ONCE)]
    behind = [asyncio.create_task(those.of_device("stolen")) for _ in range(2)]
    others = [asyncio.create_task(those.of_device(f"phone {number}")) for number in range(AT_ONCE)]

    found = await those.end(*running, *behind, *others)

    assert found == [REFUSED] * (DEVICE_AT_ONCE + 2) + [0] * AT_ONCE


async def test_a_flood_from_one_device_leaves_places_to_the_others_of_its_account() -> None:
    those = Attempts()
    flood = [asyncio.create_task(those.of_device("stolen")) for _ in range(AT_ONCE + WAITING + 3)]
    await asyncio.sleep(0)
    phone = asyncio.create_task(those.of_device("phone"))
    await asyncio.sleep(0)

    assert those.running == ["stolen"] * DEVICE_AT_ONCE + ["phone"], "it does not even wait"
    found = await those.end(*flood, phone)

    assert found == [0] * OF_A_DEVICE + [RETRY_SECONDS] * (len(flood) - OF_A_DEVICE) + [0]


async def test_many_devices_of_one_account_take_no_more_places_than_one_line() -> None:
    those = Attempts()
    flood = [asyncio.create_task(those.of_device(f"device {number}")) for number in range(AT_ONCE + WAITING + 3)]
    other = asyncio.create_task(those.of_device("device", "bob"))
    await asyncio.sleep(0)

    assert len(those.running) == AT_ONCE + 1
    assert await those.end(*flood, other) == [0] * (AT_ONCE + WAITING) + [RETRY_SECONDS] * 3 + [0]
