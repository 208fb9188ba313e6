"""Rebuild a projection beside the generation that serves, and switch without a reader noticing (blue/green).

1. *Begin.* Make a new generation, with tables, checkpoints and a consumer group of its own; or resume one.
2. *Replay.* Feed it from position 0, in this process, so that the projectors' live feeds are not slowed down. Then make
   the indexes, and catch up with what came meanwhile.
3. *Carry over* what compaction has removed from the log, once the whole log has been read.
4. *Switch* in one transaction, when the new generation has passed the old one in every partition. Query processes
   follow. The projectors feed the old generation until it is retired, so a rollback is a switch back.
5. *Hand over.* Feed the new generation until a projectors process has joined its group.

If this process is killed anywhere, the next call goes on where it stopped: positions are in the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from chassis.lifecycle import end_task, wait_for_event
from chassis.outages import Outage
from chassis.postgres.database import Database, describe
from projectors.consumer.feed import Feed
from projectors.consumer.writing import DATABASE_ERRORS
from projectors.operations import replay
from projectors.operations.rebuild_comparison import REFILL, SAMPLES, GenerationDifference, Verdict
from projectors.operations.topic_ends import require_topic
from projectors.projections.catalogue import PROJECTIONS
from projectors.projections.projection import CarryOver
from projectors.settings import ProjectorSettings
from read_model import generations
from read_model.difference import left_out
from read_model.feeding import FeedState, why_gone, why_refused
from read_model.generations import Generation, LogName, NotCaughtUpError

log = structlog.get_logger("projectors.rebuild")

#: How often progress is looked at, and so how late its end is seen; a look is one small query.
LOOK_SECONDS: Final = 0.05
#: The rate is that of the last so many seconds: long enough to be calm, short enough to be true.
RATE_SECONDS: Final = 10.0
#: Subjects whose rows are carried over in one transaction: the new generation stands still for milliseconds.
CARRY_SUBJECTS: Final = 2000
#: A switch that finds the new generation behind is tried again; behind this often, it is not being fed fast enough.
SWITCH_ATTEMPTS: Final = 5
#: A topic that a feed has missed for so much longer does not come back; the feed looks each second then.
GONE_SECONDS: Final = 2.0
#: What mends a comparison that nobody could make.
_ASK: Final = "tell this command of the command database as well (COMMAND_POSTGRES_…), which knows everybody"
#: Projectors look for generations every second, and joining a group takes a few more.
HANDOVER_SECONDS: Final = 30.0

_POSITIONS: Final = """
SELECT g.status, g.refusal, c.partition, c.position
FROM generations g LEFT JOIN checkpoints c
    ON c.projection = g.projection AND c.generation = g.generation AND c.topic = $3
WHERE g.projection = $1 AND g.generation = $2
"""


class RebuildError(Exception):
    """The rebuild cannot go on; nothing that is being read has changed."""


class DifferenceError(RebuildError):
    """What was built says something else than the command side, or lacks somebody."""

    def __init__(self, new: Generation, difference: GenerationDifference) -> None:
        """Say how `new` differs, and what to do."""
        name = new.projection
        super().__init__(
            f"generation {new.number} {difference.words}. Nothing that is read has changed. What to do:"
            f" {difference.remedy}. Then `muster rebuild {name}` goes on from there, and lists with --json who differs;"
            f" `muster rebuild {name} --accept-difference` switches all the same"
        )
        self.number, self.difference = new.number, difference


class Stage(StrEnum):
    """Where a rebuild is."""

    REPLAY = "replaying the topic"
    INDEX = "making indexes"
    CARRY_OVER = "carrying over what the topic no longer has"
    READY = "caught up"
    SWITCH = "switching"
    HANDOVER = "handing over to the projectors"
    DONE = "done"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rebuild is: positions, summed over partitions."""

    stage: Stage
    generation: int
    done: int
    total: int
    #: Positions a second, over the last RATE_SECONDS.
    rate: float

    @property
    def seconds_left(self) -> float | None:
        """None while there is no rate to judge by."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


Report = Callable[[Progress], None]
#: Says how a generation differs from the command side; None: that side could not be asked.
Compare = Callable[[Generation], Awaitable[Verdict | None]]


@dataclass(slots=True)
class _Rate:
    """Positions a second over the last RATE_SECONDS."""

    looks: list[tuple[float, int]]

    def of(self, done: int) -> float:
        now = time.monotonic()
        self.looks = [(when, then) for when, then in self.looks if now - when < RATE_SECONDS]
        self.looks.append((now, done))
        (first_when, first_done), (last_when, last_done) = self.looks[0], self.looks[-1]
        return (last_done - first_done) / (last_when - first_when) if last_when > first_when else 0.0


class Rebuild:
    """One rebuild of one projection."""

    def __init__(
        self, settings: ProjectorSettings, database: Database, projection: str, stopping: asyncio.Event, report: Report
    ) -> None:
        """Bind; nothing is begun."""
        self._settings = settings
        self._database = database
        self._projection = projection
        self._stopping = stopping
        self._report = report
        self._rate = _Rate([])
        #: What served before the switch, once there was one.
        self.replaced: Generation | None = None
        #: How the new generation differs, where it was switched to all the same; empty: not at all.
        self.accepted = ""
        self._outage = Outage(log, "rebuild.database_unavailable")
        #: When the topic was last there, by the monotonic clock, and which it is.
        self._there = time.monotonic()
        self._topic_id: UUID | None = None

    async def run(  # noqa: PLR0913 - one for each way to run it
        self,
        *,
        pause_before_switch: bool,
        carry_over: bool = True,
        compare: Compare | None = None,
        compare_always: bool = True,
        accept_difference: bool = False,
        hand_over: bool = True,
        processes: int = 1,
    ) -> Stage:
        """Build, switch, hand over; returns DONE, READY (paused before the switch) or STOPPED (`stopping` was set).

        Without `carry_over`, what the topic no longer has is given up. Where `compare` finds a difference, or where it
        cannot tell and somebody who is read now is left out, there is no switch but with `accept_difference`. Without
        `compare_always` that is asked only where somebody is left out. Without `hand_over`, nobody feeds the new
        generation from the switch until projectors start. So many `processes` replay a long topic, fewer a short one.

        Raises:
            RebuildError: it cannot go on; DifferenceError: because of a difference.
            NoGenerationError, OtherBuildError: there is nothing to rebuild here.
            DatabaseUnavailableError, KafkaError, OSError: a server was away at the beginning or at the switch.
        """
        async with self._database.connection() as connection:
            # Before anything is made, so that a rebuild which cannot take over, or an outage, leaves nothing behind.
            if carry_over:
                self._plan(await generations.serving(connection, self._projection))
            goal = await self._ends()
            assert self._topic_id is not None, "its ends were asked for"
            read = LogName(self._topic, self._topic_id)
            generation, made = await generations.begin(connection, self._projection, read)
        log.info("rebuild.begun" if made else "rebuild.resumed", projection=self._projection, to=generation.number)
        async with replay.feeding(self._settings, self._database, generation) as feed, self._unless_retired(generation):
            beside = await self._worth_starting(generation, goal, processes)
            async with replay.fed_beside(feed, self._settings, beside, self._stopping):
                if not await self._replay(feed, goal):
                    return Stage.STOPPED
            built = await self._build(feed, goal, carry_over=carry_over)
            if built is None:
                return Stage.STOPPED
            difference = await self._compared(
                generation, compare, always=compare_always, accept_difference=accept_difference
            )
            if difference and not accept_difference:
                raise DifferenceError(generation, difference)
            if pause_before_switch:
                self._tell(Stage.READY, generation, built, built)
                return Stage.READY
            await self._switch(generation)
            self.accepted = difference.words if difference else ""
            if hand_over:
                await self._hand_over(feed)
        self._tell(Stage.DONE, generation, built, built)
        return Stage.DONE

    async def _build(self, feed: Feed, goal: Mapping[int, int], *, carry_over: bool) -> Mapping[int, int] | None:
        """All from the replay to the comparison, and the ends that were read up to; None when told to stop."""
        self._tell(Stage.INDEX, feed.generation, goal, goal)
        if not await self._index(feed.generation):
            return None
        goal = await self._ends()
        if not await self._replay(feed, goal):
            return None
        if carry_over and not await self._carry_over(feed.generation):
            return None
        return goal

    async def _worth_starting(self, generation: Generation, goal: Mapping[int, int], processes: int) -> int:
        """How many of these processes have enough to read, beside ours."""
        left = sum(goal.values()) - sum((await self._positions(generation)).values())
        return max(min(processes, len(goal), left // replay.LEAST_RECORDS) - 1, 0)

    @asynccontextmanager
    async def _unless_retired(self, generation: Generation) -> AsyncIterator[None]:
        """Say so where the tables are missing because somebody has retired the generation meanwhile."""
        try:
            yield
        except asyncpg.UndefinedTableError as error:
            async with self._database.connection() as connection:
                known = await generations.read(connection, self._projection)
            if any(one.number == generation.number and one.status == "retired" for one in known):
                raise self._retired(generation) from error
            raise

    def _retired(self, generation: Generation) -> RebuildError:
        return RebuildError(
            f"generation {generation.number} was retired meanwhile: `muster rebuild {self._projection}` builds another"
        )

    @property
    def _topic(self) -> str:
        return PROJECTIONS[self._projection].subject.topic(self._settings)

    async def _ends(self) -> Mapping[int, int]:
        there = await require_topic(self._settings, self._topic, self._settings.topic_partitions)
        self._require_same(there.id)
        self._topic_id = there.id
        return there.ends

    def _require_same(self, topic_id: UUID | None) -> None:
        if topic_id is not None and self._topic_id not in {None, topic_id}:
            raise RebuildError(
                f"the topic {self._topic} was made again meanwhile: `muster events refill` fills it, where it may lack"
                f" anybody, and then `muster rebuild {self._projection}` drops what this one has read and begins anew"
            )

    async def _replay(self, feed: Feed, goal: Mapping[int, int]) -> bool:
        """Wait until every partition has been read as far as it went when this began; False when told to stop."""
        while not self._stopping.is_set():
            if feed.idle_seconds > self._settings.projectors_stall_seconds:
                raise RebuildError(f"nothing has moved for {feed.idle_seconds:.0f} s; start the rebuild again")
            self._refuse_another_topic(feed)
            try:
                now = await self._positions(feed.generation)
            except DATABASE_ERRORS as error:
                self._outage.failed(describe(error))
            else:
                self._outage.over()
                self._tell(Stage.REPLAY, feed.generation, now, goal)
                if all(now.get(partition, 0) >= end for partition, end in goal.items()):
                    return True
            await wait_for_event(self._stopping, LOOK_SECONDS)
        return False

    def _refuse_another_topic(self, feed: Feed) -> None:
        """Where the topic is gone, or another by now, the goal is never reached."""
        self._require_same(feed.topic_id)
        if feed.state()[0] is not FeedState.TOPIC_GONE:
            self._there = time.monotonic()
        elif time.monotonic() - self._there > GONE_SECONDS:
            raise RebuildError(
                f"{why_gone(feed.topic)}; then `muster rebuild {self._projection}` drops what this one has read and"
                " begins anew"
            )

    async def _index(self, generation: Generation) -> bool:
        """Make the indexes; False when told to stop: those that were not finished are made by the next call."""
        making = asyncio.create_task(generations.add_indexes(self._database.connection, generation))
        told = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((making, told), return_when=asyncio.FIRST_COMPLETED)
            return making.done()
        finally:
            await end_task(told)
            await end_task(making)

    async def _positions(self, generation: Generation) -> dict[int, int]:
        """How far each partition was read.

        Raises:
            RebuildError: somebody has retired the generation, or whoever feeds it has refused it.
        """
        owner = (generation.projection, generation.number)
        async with self._database.connection() as connection:
            rows = await connection.fetch(_POSITIONS, *owner, self._topic)
        if any(row["status"] == "retired" for row in rows):
            raise self._retired(generation)
        for row in rows:
            if row["refusal"] is not None:
                refused = why_refused(replace(generation, refusal=row["refusal"]))
                raise RebuildError(f"generation {generation.number} is refused: {refused}")
        return {row["partition"]: row["position"] for row in rows if row["partition"] is not None}

    async def _carry_over(self, new: Generation) -> bool:
        """Take over what the log no longer has, some subjects at a time; the new generation stands still meanwhile.

        Returns:
            False when told to stop before the end.
        """
        async with self._database.connection() as connection:
            old = await generations.serving(connection, self._projection)
        plan = self._plan(old)
        if plan is None:
            log.warning("rebuild.nothing_carried_over", old_shape=old.shape, new_shape=new.shape)
            return True
        carry = plan(old.number, new.number)
        start: UUID | None = UUID(int=0)
        while start is not None:
            if self._stopping.is_set():
                return False
            async with self._database.connection() as connection:
                end: UUID | None = await connection.fetchval(
                    f"SELECT id FROM {carry.ids} WHERE id > $1 ORDER BY id OFFSET $2 LIMIT 1",  # noqa: S608 - our name
                    start,
                    CARRY_SUBJECTS,
                )
                async with connection.transaction():
                    # A tombstone that the new generation is applying at this moment must not be missed, or undone.
                    await connection.execute(
                        "SELECT FROM checkpoints WHERE projection = $1 AND generation = $2 ORDER BY topic, partition"
                        " FOR UPDATE",
                        new.projection,
                        new.number,
                    )
                    for statement in carry.statements:
                        await connection.execute(statement, start, end)
            start = end
        return True

    def _plan(self, old: Generation) -> Callable[[int, int], CarryOver] | None:
        """How to take over from this generation; None where nothing can be.

        Raises:
            RebuildError: this code does not know its shape.
        """
        plans = PROJECTIONS[self._projection].carry_over
        if old.shape not in plans:
            raise RebuildError(
                f"generation {old.number} of {old.projection} has shape {old.shape}, and this version of the code does"
                " not know how to take over from it what the topic no longer has: rebuild with the version that does,"
                " or give it up with --without-carry-over"
            )
        return plans[old.shape]

    async def _compared(
        self, new: Generation, compare: Compare | None, *, always: bool, accept_difference: bool
    ) -> GenerationDifference | None:
        """How the new generation differs; whoever accepts that accepts as well that a database does not tell it."""
        try:
            return await self._difference(new, compare, always=always)
        except DATABASE_ERRORS as error:
            if not accept_difference:
                raise
            return GenerationDifference(f"could not be compared: {describe(error)}", "")

    async def _difference(
        self, new: Generation, compare: Compare | None, *, always: bool
    ) -> GenerationDifference | None:
        """What nothing explains; the command side explains every difference from what is read now.

        It knows who is erased, or never was. Where it cannot be asked, nobody may be left out.
        """
        if not always and await self._left_out(new) is None:
            return None
        verdict = await compare(new) if compare else None
        return await self._left_out(new) if verdict is None else GenerationDifference.of(verdict)

    async def _left_out(self, new: Generation) -> GenerationDifference | None:
        """Whom this generation lacks; nobody where it has read the same topic as the one that serves, to its end."""
        async with self._database.connection() as connection:
            old = await generations.serving(connection, self._projection)
            if await generations.have_same_log(connection, old, new):
                return None
            if old.shape != new.shape:
                return GenerationDifference(
                    f"cannot be compared with generation {old.number}, which has another shape", _ASK
                )
            number, ids = await left_out(connection, old, new)
        if not number:
            return None
        named = ", ".join(map(str, ids[:SAMPLES]))
        return GenerationDifference(
            f"leaves out {number:,} users of generation {old.number}, or has an older state of them: {named}",
            REFILL,
            {"left_out": ids},
        )

    async def _switch(self, new: Generation) -> None:
        for attempt in range(1, SWITCH_ATTEMPTS + 1):
            try:
                async with self._database.connection() as connection:
                    old = await generations.serving(connection, self._projection)
                    await generations.switch(connection, old, new)
            except NotCaughtUpError as error:
                log.warning("rebuild.switch_postponed", attempt=attempt, reason=str(error))
                if attempt == SWITCH_ATTEMPTS:
                    raise RebuildError(str(error)) from error
            else:
                self.replaced = old
                log.info("rebuild.switched", projection=self._projection, old=old.number, new=new.number)
                return

    async def _hand_over(self, feed: Feed) -> None:
        """Feed on until others have joined the group, which then leaves us fewer partitions, or none."""
        feed.follow(replace(feed.generation, status="serving"))
        deadline = time.monotonic() + HANDOVER_SECONDS
        partitions = self._settings.topic_partitions
        while time.monotonic() < deadline and not await wait_for_event(self._stopping, LOOK_SECONDS):
            if feed.why_not_ready() is None and len(feed.assignment) < partitions:
                return
        log.warning("rebuild.nobody_feeds", projection=self._projection, remedy="start `muster project`")

    def _tell(self, stage: Stage, generation: Generation, now: Mapping[int, int], goal: Mapping[int, int]) -> None:
        done = sum(min(now.get(partition, 0), end) for partition, end in goal.items())
        self._report(Progress(stage, generation.number, done, sum(goal.values()), self._rate.of(done)))


async def outdated(database: Database) -> list[str]:
    """The projections whose serving generation has an older shape than this version of the code feeds.

    Raises:
        NoGenerationError: nothing serves yet.
    """
    async with database.connection() as connection:
        serving = [await generations.serving(connection, name) for name in PROJECTIONS]
    return [one.projection for one in serving if one.shape < PROJECTIONS[one.projection].shape]


async def roll_back(database: Database, projection: str, number: int | None = None) -> tuple[Generation, Generation]:
    """Switch back to a generation that stands by, the newest that is not refused unless `number` names another.

    Returns:
        What served before, and what serves now.

    Raises:
        NoGenerationError: nothing stands by that could be gone back to.
        NotCaughtUpError: it is refused, or behind: it is not being fed.
    """
    async with database.connection() as connection:
        now = await generations.serving(connection, projection)
        after = generations.rollback_target(await generations.read(connection, projection), number)
        if after is None:
            which = "stands by that is not refused" if number is None else f"{number} stands by"
            raise generations.NoGenerationError(
                f"no generation of {projection} {which}: there is nothing to go back to"
            )
        await generations.switch(connection, now, after)
    return now, after


async def retire_generations(database: Database, projection: str, number: int | None = None) -> list[Generation]:
    """Drop the generation of this number, which must not serve; without a number, all that stand by.

    Raises:
        NoGenerationError: there is no such generation.
        InUseError: it serves, or did until a moment ago.
    """
    async with database.connection() as connection:
        known = [one for one in await generations.read(connection, projection) if one.status != "retired"]
        chosen = [one for one in known if (one.status == "standby" if number is None else one.number == number)]
        if not chosen:
            which = "that stands by" if number is None else str(number)
            raise generations.NoGenerationError(f"{projection} has no generation {which}")
        for generation in chosen:
            await generations.retire(connection, generation)
    return chosen
