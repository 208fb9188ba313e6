"""One run: clients work while faults strike, one after the other; then what is there is looked at and judged."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Final

from chassis.lifecycle import alongside
from tests.chaos.checker import check
from tests.chaos.clients import Client, Follower, KnownUser, World
from tests.chaos.faults import Fault, catalogue
from tests.chaos.history import History
from tests.chaos.observation import observe
from tests.chaos.stack import ChaosStack
from tests.waiting import until

WRITERS: Final = 6
WALKERS: Final = 2
#: Users who are changed and read back after each fault; on most of the partitions.
PROBES: Final = 8
#: After a fault a change of each must have gone through within this many seconds, on any machine.
RECOVERY_SECONDS: Final = 240.0
#: When the clients have stopped, the read side has this long to catch up.
CATCH_UP_SECONDS: Final = 120.0
#: So many commands as a plan may want take seconds; a loaded machine needs longer.
COMMANDS_SECONDS: Final = 300.0
#: For how long a fault goes on: some are shorter than any deadline of ours, some longer than most.
HELD_SECONDS: Final = (0.5, 12.0)
#: Between a recovery and the next fault.
CALM_SECONDS: Final = (0.2, 2.0)
#: How often two faults strike at once.
PAIRS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does: for so many seconds all faults in a random order, or only those named, once each.

    It goes on until so many commands have been sent, which without faults is all that it does.
    """

    seconds: float = 60.0
    seed: int = 1
    faults: tuple[str, ...] | None = None
    held: tuple[float, float] = HELD_SECONDS
    commands: int = 0
    #: After a fault everything must work within so many seconds.
    recovery: float = RECOVERY_SECONDS
    #: When the clients have stopped, the read side has so many to catch up; in what is broken by intent it need not.
    catch_up: float = CATCH_UP_SECONDS
    broken: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Strike:
    """What struck, for how long, and how many seconds later everything worked again (None: not in time)."""

    faults: tuple[str, ...]
    held: float
    recovery: float | None


@dataclass(slots=True)
class Outcome:
    """What happened, what was seen, and which promises were broken."""

    history: History
    #: For how long clients worked.
    seconds: float = 0.0
    strikes: list[Strike] = field(default_factory=list)
    breaches: dict[str, list[str]] = field(default_factory=dict)
    #: Every fault that this machine allows.
    known: tuple[str, ...] = ()

    @property
    def spared(self) -> list[str]:
        """The faults that never struck."""
        struck = {name for strike in self.strikes for name in strike.faults}
        return [name for name in self.known if name not in struck]


Report = Callable[[str], object]


async def run(stack: ChaosStack, plan: Plan, *, report: Report = lambda _: None) -> Outcome:
    """Run the plan on a running stack and judge what was seen; `report` is told of each strike."""
    ports = (stack.ports.command, stack.ports.query, stack.ports.events)
    command_url, query_url, events_url = (f"http://127.0.0.1:{port}" for port in ports)
    world = World(command_url, query_url, events_url, stack.bearer())
    outcome = Outcome(world.history, known=tuple(fault.name for fault in catalogue(stack)))
    began = time.monotonic()
    async with alongside(Follower(world).follow()):
        async with _clients(world, plan.seed) as (prober, *clients), asyncio.TaskGroup() as group:
            for number, client in enumerate(clients):
                group.create_task(client.walk() if number < WALKERS else client.write())
            try:
                await _strike(stack, plan, prober, outcome, report)
            finally:
                world.over.set()
        outcome.seconds = time.monotonic() - began
        await observe(stack, world.history, plan.catch_up, plan.broken)
    outcome.breaches = check(world.history)
    return outcome


@asynccontextmanager
async def _clients(world: World, seed: int) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Client(world, number, seed)) for number in range(1 + WALKERS + WRITERS)]


async def _strike(stack: ChaosStack, plan: Plan, prober: Client, outcome: Outcome, report: Report) -> None:
    """Let one fault after the other strike; each waits until everything works again."""
    rng = random.Random(plan.seed)
    probes = [user for user in [await prober.register() for _ in range(PROBES)] if user]
    began = time.monotonic()
    for faults in _schedule(catalogue(stack), plan, rng):
        held = rng.uniform(*plan.held) if any(fault.lasts for fault in faults) else 0.0
        async with AsyncExitStack() as struck:
            for fault in faults:
                _note_death(outcome.history, fault)
                await struck.enter_async_context(fault.strike(stack, rng))
            await asyncio.sleep(held)
        for fault in faults:
            _note_death(outcome.history, fault)
        recovery = await _recover(prober, probes, plan.recovery)
        names = tuple(fault.name for fault in faults)
        outcome.strikes.append(Strike(names, held, recovery))
        after = "not in time" if recovery is None else f"{recovery:.1f} s later"
        report(f"{' and '.join(names)} for {held:.1f} s: works again {after}")
        if recovery is None:
            outcome.history.unrecovered.append(" and ".join(names))
        if plan.faults is None and time.monotonic() - began > plan.seconds:
            break
        await asyncio.sleep(rng.uniform(*CALM_SECONDS))

    async def enough() -> bool:
        return len(outcome.history.commands) >= plan.commands

    await until(enough, within=COMMANDS_SECONDS, what=f"{plan.commands} commands")


def _schedule(faults: list[Fault], plan: Plan, rng: random.Random) -> Iterator[tuple[Fault, ...]]:
    """Those that are named, once; else all, again and again, sometimes two at once."""
    if plan.faults is not None:
        known = {fault.name: fault for fault in faults}
        yield from ((known[name],) for name in plan.faults)
        return
    for fault in chain.from_iterable(rng.sample(faults, len(faults)) for _ in repeat(None)):
        other = rng.choice(faults) if rng.random() < PAIRS else fault
        yield (fault,) if fault is other or fault.alone or other.alone else (fault, other)


def _note_death(history: History, fault: Fault) -> None:
    if fault.ends_postgres:
        history.deaths.append(time.monotonic())


async def _recover(prober: Client, probes: list[KnownUser], within: float) -> float | None:
    """How many seconds it takes until a change of each probe is acknowledged and read back; None: too many."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(within):
            await asyncio.gather(*(prober.change_and_read(user) for user in probes))
    except TimeoutError:
        return None
    return time.monotonic() - began
