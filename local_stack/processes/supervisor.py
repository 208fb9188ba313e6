"""Keeps a set of children running: restarts those that die, gives up if one keeps dying, stops all in order.

A death is an exit that nobody asked for, or a restart that does not become ready. After each death the child is started
again, after a longer pause each time. After `DEATHS` deaths of one child within `DEATHS_WITHIN_SECONDS` the supervisor
reports a failure, since one more start would not help.

Use: `start`, any number of times, with several children at once; then wait on `until_failure`; `stop` always, also
after a start that failed half-way. `stop` leaves no child running.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from local_stack.errors import ChildFailedError, LocalStackError
from local_stack.processes.child import Child, describe_exit

DEATHS = 10
DEATHS_WITHIN_SECONDS = 600.0

# 0.2, 0.4, … 25.6, 30 s: a hiccup costs nothing, and there is more than a minute to make room on a full disk, while
# the other children go on.
FIRST_BACK_OFF_SECONDS = 0.2
LONGEST_BACK_OFF_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often a child may die, and how long to wait before each restart."""

    deaths: int = DEATHS
    within_seconds: float = DEATHS_WITHIN_SECONDS
    first_back_off_seconds: float = FIRST_BACK_OFF_SECONDS
    longest_back_off_seconds: float = LONGEST_BACK_OFF_SECONDS

    def back_off(self, deaths: int) -> float:
        """Return the seconds to wait after so many recent deaths."""
        return float(min(self.first_back_off_seconds * 2 ** (deaths - 1), self.longest_back_off_seconds))


class Observer(Protocol):
    """Hears what happens to the children, for the person at the terminal and for stack.json."""

    def started(self, child: Child) -> None:
        """A child is ready, for the first time or again."""

    def died(self, child: Child, what: str, restart_in: float) -> None:
        """A child ended unexpectedly, or did not become ready; it is started again in so many seconds."""

    def stopping(self, children: Sequence[Child]) -> None:
        """These children are asked to end."""


class Supervisor:
    """Watches children from their first start to their end."""

    def __init__(self, observer: Observer, policy: RestartPolicy | None = None) -> None:
        self._observer = observer
        self._policy = policy or RestartPolicy()
        self._watches: dict[Child, asyncio.Task[None]] = {}
        self._failure: asyncio.Future[ChildFailedError] | None = None

    async def start(self, *children: Child) -> None:
        """Start children side by side; return when all are ready, and watch them from then on.

        Raises:
            ChildFailedError: one of them failed; those already started are still running and watched.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for child in children:
                    group.create_task(self._start_first(child))
        except* ChildFailedError as failures:
            raise failures.exceptions[0] from None

    async def until_failure(self) -> ChildFailedError:
        """Return when a child has died too often, with what is known about it."""
        return await self._failure_future()

    async def stop(self, order: Sequence[Sequence[Child]], hasten: asyncio.Event) -> None:
        """End all, group after group, a group's members at the same time; once `hasten` is set, kill those left."""
        for watch in self._watches.values():
            watch.cancel()
        await asyncio.gather(*self._watches.values(), return_exceptions=True)
        for group in order:
            running = [child for child in group if child.running]
            if running:
                self._observer.stopping(running)
                await asyncio.gather(*(_end(child, hasten) for child in running))

    async def _start_first(self, child: Child) -> None:
        await child.start()
        self._observer.started(child)
        self._watches[child] = asyncio.create_task(self._watch(child), name=f"watch-{child.name}")

    async def _watch(self, child: Child) -> None:
        """Start the child again after every death, until it has died too often."""
        deaths: deque[float] = deque(maxlen=self._policy.deaths)
        while True:
            what = f"ended unexpectedly ({describe_exit(await child.wait())})"
            while what:
                deaths.append(asyncio.get_running_loop().time())
                if self._too_often(deaths):
                    self._give_up(child, what, len(deaths))
                    return
                what = await self._bring_back(child, what, self._policy.back_off(len(deaths)))

    async def _bring_back(self, child: Child, what: str, back_off: float) -> str:
        """Start the child again after a while; return why that failed, or an empty string."""
        self._observer.died(child, what, back_off)
        await asyncio.sleep(back_off)
        try:
            await child.start()
        except (LocalStackError, OSError) as failure:  # OSError: no process could be made
            return failure.what if isinstance(failure, ChildFailedError) else str(failure)
        self._observer.started(child)
        return ""

    def _too_often(self, deaths: deque[float]) -> bool:
        """Tell whether there were too many recent deaths; forget those that are not recent."""
        horizon = asyncio.get_running_loop().time() - self._policy.within_seconds
        while deaths and deaths[0] < horizon:
            deaths.popleft()
        return len(deaths) >= self._policy.deaths

    def _give_up(self, child: Child, what: str, deaths: int) -> None:
        failure = child.failed(
            f"died {deaths} times within {self._policy.within_seconds:.0f} s; the last time it {what}"
        )
        if not self._failure_future().done():
            self._failure_future().set_result(failure)

    def _failure_future(self) -> "asyncio.Future[ChildFailedError]":
        if self._failure is None:
            self._failure = asyncio.get_running_loop().create_future()
        return self._failure


async def _end(child: Child, hasten: asyncio.Event) -> None:
    """Stop the child; kill it as soon as `hasten` is set."""
    stop = asyncio.create_task(child.stop())
    haste = asyncio.create_task(hasten.wait())
    await asyncio.wait({stop, haste}, return_when=asyncio.FIRST_COMPLETED)
    haste.cancel()
    if not stop.done():
        await child.kill()
    await stop
