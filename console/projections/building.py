"""Carries out rebuilds, rollbacks and retirements: the functions of `muster rebuild`, and what they fail with.

It comes with the libraries of a feed, 6 MB, so it is imported by the first who rebuilds (`rebuilds.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Final

import asyncpg

from chassis.kafka.client import KAFKA_ERRORS
from chassis.kafka.refusals import REFUSALS as KAFKA_REFUSALS
from chassis.kafka.refusals import explain
from chassis.postgres.database import Database, DatabaseUnavailableError, describe
from console.pages import PageError
from console.projections.rebuilds import RebuildPart
from console.words import count
from projectors.app import open_database
from projectors.operations import rebuild
from projectors.operations.rebuild import DifferenceError, Rebuild, RebuildError, Stage
from projectors.operations.rebuild_comparison import Comparison, Verdict
from projectors.settings import ProjectorSettings
from read_model.generations import Generation, InUseError, NoGenerationError, NotCaughtUpError, OtherBuildError

#: The refusals of the generations' own rules.
_REFUSALS: Final[tuple[type[Exception], ...]] = (
    *(RebuildError, NoGenerationError, OtherBuildError),
    *(NotCaughtUpError, InUseError),
)
_DATABASE_AWAY: Final[tuple[type[Exception], ...]] = (DatabaseUnavailableError, asyncpg.PostgresError)
_AWAY: Final[tuple[type[Exception], ...]] = (*_DATABASE_AWAY, *KAFKA_ERRORS, *KAFKA_REFUSALS)


async def build(
    settings: ProjectorSettings,
    command: Database,
    part: RebuildPart,
    stopping: asyncio.Event,
    *,
    accept_difference: bool,
) -> bool:
    """Carry a part of a rebuild out; whether what was built waits for a person to switch to it.

    Raises:
        PageError: it cannot go on.
    """
    try:
        async with open_database(settings.query_database, application="muster-console-rebuild") as database:
            carried = Rebuild(settings, database, part.projection, stopping, part.show)
            stage = await carried.run(
                pause_before_switch=not part.switches,
                compare=partial(_compare, command, database, part),
                accept_difference=accept_difference,
            )
            part.accepted = carried.accepted
    except DifferenceError as error:
        part.differs = True
        part.remedy = error.difference.remedy
        raise PageError(409, "It differs", f"Generation {error.number} {error.difference.words}.") from error
    except _REFUSALS as error:
        raise PageError(409, "The rebuild cannot go on", str(error)) from error
    except _AWAY as error:
        why = f"{explain(error)}. What was built stays."
        raise PageError(503, "A server does not answer", why, unsure=True) from error
    if stage is Stage.STOPPED:
        why = "The console was stopped. What was built stays."
        raise PageError(503, "Stopped with the console", why, unsure=True)
    return stage is Stage.READY


async def roll_back(query: Database, projection: str) -> None:
    """Let queries read the generation before.

    Raises:
        PageError: 409, the generations' own rules refuse.
    """
    await _refusing(rebuild.roll_back(query, projection))


async def retire(query: Database, projection: str, number: int) -> None:
    """Drop a generation's tables.

    Raises:
        PageError: 409, the generations' own rules refuse.
    """
    await _refusing(rebuild.retire_generations(query, projection, number))


async def _refusing(work: Awaitable[object]) -> None:
    try:
        await work
    except _REFUSALS as error:
        raise PageError(409, "That cannot be done now", f"Nothing was changed: {error}.") from error


async def _compare(command: Database, query: Database, part: RebuildPart, generation: Generation) -> Verdict | None:
    """How the generation differs from the command side; None where that does not answer."""
    try:
        verdict = await Comparison(command, query, generation).run()
    except _DATABASE_AWAY as error:
        part.compared = f"It was not compared with the command side: {describe(error)}."
        return None
    part.compared = f"Compared with the command side, user by user: {count(verdict.compared)}. " + (
        "They differ." if verdict.counts else "There is no difference."
    )
    return verdict
