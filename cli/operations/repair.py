"""`muster repair ID…|--ahead`: writes users on the read side anew from the command side, and mends the log.

A repair looks where the log ends, then appends the user's snapshot or tombstone to the outbox, and then writes the
user's state into every generation while no command can change it. So the published record is behind the position from
which on the log counts again, and whatever is committed later is behind both. Killed anywhere, it is begun again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final
from uuid import UUID

import typer

from chassis.clock import utc_now
from chassis.postgres.database import Database
from chassis.settings import OperatorCommandPostgres, load
from cli.operations.audit_comparison import Audit, DifferenceKind, UserDifference
from cli.terminal.operator import operator
from cli.terminal.outages import OUTAGES, explain_outage
from cli.terminal.output import JsonOption, counted, fail, print_json, say
from command_api.present_state import give_up, lock_living, present_state, raise_versions
from command_api.republication import Operation, append, append_present, tombstone
from outbox.publishing.partitioning import partition_of
from projectors.decoding.records import MAX_VERSION
from projectors.operations.repair import Place, heal, known_version
from projectors.operations.topic_ends import TopicEnds, look_at_topic
from projectors.projections.projection import PresentState
from projectors.settings import OperatorProjectorSettings
from read_model.generations import NoGenerationError

#: Users whose versions one transaction raises: commands on them wait for some tens of milliseconds.
RAISED_TOGETHER: Final = 1000


class CannotRepairError(Exception):
    """Nothing was changed; the message says why."""


class UnknownUserError(CannotRepairError):
    """Neither side knows the user."""


class RepairSettings(OperatorCommandPostgres, OperatorProjectorSettings):
    """Both databases and the topic."""


@dataclass(slots=True)
class _Ahead:
    """What `--ahead` did, and what it left to a person."""

    raised: int = 0
    erase_again: list[UUID] = field(default_factory=list)
    only_read_side: list[UUID] = field(default_factory=list)
    repair: list[UUID] = field(default_factory=list)


#: What to do about whom `--ahead` leaves.
_REMEDIES: Final = {
    "erase_again": "were erased after the backup and are on the command side again: erase them, DELETE /users/{id}",
    "only_read_side": "are on the read side alone: import them by id and repeat, or `muster repair ID…` erases them",
    "repair": "were written about by somebody else: `muster repair ID…`",
}


def repair(
    users: Annotated[list[UUID] | None, typer.Argument(help="Ids of users.", metavar="ID")] = None,
    *,
    ahead: Annotated[
        bool, typer.Option("--ahead", help="After a restored backup: whom the read side has in a greater version.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write users on the read side as the command side has them, or raise versions that the read side has passed."""
    if ahead == bool(users):
        raise typer.BadParameter("give either ids of users or --ahead")
    settings = load(RepairSettings)
    try:
        if ahead:
            _tell_ahead(asyncio.run(_raise_all(settings)), as_json=as_json)
        else:
            done, refused = asyncio.run(_repair_all(settings, users or []))
            _tell_repaired(done, as_json=as_json)
            if refused:
                fail("\n".join(refused))
    except (CannotRepairError, NoGenerationError) as error:
        fail(str(error))
    except OUTAGES as error:
        explain_outage(error)


async def _repair_all(settings: RepairSettings, users: Sequence[UUID]) -> tuple[dict[UUID, str], list[str]]:
    """Repair each, and say what each is now; and why some cannot be repaired."""
    operation = Operation(operator())
    done: dict[UUID, str] = {}
    refused: list[str] = []
    async with (
        Database.open(settings.command_database, application="muster-repair") as command,
        Database.open(settings.query_database, application="muster-repair") as query,
    ):
        for user_id in users:
            try:
                done[user_id] = await _repair(settings, command, query, user_id, operation)
            except UnknownUserError as error:
                refused.append(str(error))
    return done, refused


async def _repair(
    settings: RepairSettings, command: Database, query: Database, user_id: UUID, operation: Operation
) -> str:
    place = _place(user_id, await _look(settings))
    await _publish(command, query, user_id, operation)
    async with command.connection() as connection, connection.transaction():
        state = await present_state(connection, user_id)
        present = PresentState(user_id, state.version, state.event_id, is_erased=state.user is None)
        healed = await heal(query, present, state.user, place, utc_now())
    where = ", ".join(f"{one.projection} generation {one.number}" for one in healed)
    what = f"version {state.version}" if state.user else "erased"
    return f"{what} in {where}"


async def _look(settings: RepairSettings) -> TopicEnds:
    there = await look_at_topic(settings, settings.events_topic, settings.topic_partitions)
    if there is None:
        raise CannotRepairError(f"there is no topic {settings.events_topic}: `muster topics` makes it")
    return there


def _place(user_id: UUID, there: TopicEnds) -> Place:
    partition = partition_of(str(user_id).encode(), len(there.ends))
    return Place(there.id, partition, there.ends[partition])


async def _publish(command: Database, query: Database, user_id: UUID, operation: Operation) -> None:
    """Append the user's snapshot. A user whom the command side does not know gets a tombstone and is erased."""
    async with command.connection() as connection, connection.transaction():
        if await append_present(connection, [user_id], operation):
            return
        version = await known_version(query, user_id)
        if version is None:
            raise UnknownUserError(
                f"neither side knows a user {user_id}; what somebody else wrote about them `muster parked discard"
                " --suspicious` removes"
            )
        now = utc_now()
        erasure = tombstone(user_id, version, None, now, operation)
        if not await give_up(connection, user_id, version, erasure.event_id, now):
            raise CannotRepairError(f"user {user_id} has been imported meanwhile; nothing was changed: repair it again")
        await append(connection, [erasure])


async def _raise_all(settings: RepairSettings) -> _Ahead:
    operation, found = Operation(operator()), _Ahead()
    async with (
        Database.open(settings.command_database, application="muster-repair") as command,
        Database.open(settings.query_database, application="muster-repair") as query,
    ):
        work = await Audit.with_serving(command, query)
        async for _, differences in work.walk():
            for first in range(0, len(differences), RAISED_TOGETHER):
                await _raise(command, differences[first : first + RAISED_TOGETHER], operation, found)
    return found


async def _raise(command: Database, differences: Sequence[UserDifference], operation: Operation, found: _Ahead) -> None:
    """Let the command side's versions pass the read side's; leave users whom that would bring back or invent.

    An equal version is not enough: subscribers would keep the other content.
    """
    #: What the read side has: the version, and whether nothing but that they were erased.
    passed: dict[UUID, tuple[int, bool]] = {}
    for one in differences:
        if one.kind is DifferenceKind.BEHIND or one.query_version is None:
            continue
        if one.kind is DifferenceKind.FORGED or one.query_version == MAX_VERSION:
            found.repair.append(one.user_id)
        elif one.command_version is None:
            found.only_read_side.append(one.user_id)
        else:
            passed[one.user_id] = one.query_version, one.erased
    if not passed:
        return
    async with command.connection() as connection, connection.transaction():
        living = await lock_living(connection, list(passed))
        # A snapshot would bring the person back, on the topic too. The next erasure has the version after this.
        again = {user_id for user_id, (_, erased) in passed.items() if erased and user_id in living}
        raised = [user_id for user_id in passed if user_id not in again]
        versions = {user_id: version + (user_id not in again) for user_id, (version, _) in passed.items()}
        await raise_versions(connection, versions)
        await append_present(connection, raised, operation)
    found.erase_again += sorted(again)
    found.raised += len(raised)


def _tell_repaired(done: dict[UUID, str], *, as_json: bool) -> None:
    if as_json:
        print_json({str(user_id): what for user_id, what in done.items()})
        return
    for user_id, what in done.items():
        say(f"{user_id}: {what}; the relay publishes the same")


def _tell_ahead(found: _Ahead, *, as_json: bool) -> None:
    left = {name: getattr(found, name) for name in _REMEDIES}
    if as_json:
        print_json({"raised": found.raised, **left})
    else:
        say(f"{counted(found.raised, 'user')} raised above the read side; the relay publishes them")
        for name, ids in left.items():
            if ids:
                say(f"{counted(len(ids), 'user')} {_REMEDIES[name]}: {' '.join(map(str, ids))}")
    raise typer.Exit(1 if any(left.values()) else 0)
