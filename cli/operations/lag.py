"""`muster lag`: how far behind everything is, in records and in seconds."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import httpx
import typer
from rich.table import Table

from chassis.postgres.database import Database
from chassis.settings import OperatorCommandPostgres, load
from cli.operations.relay_figures import relay_document, relay_lines
from cli.terminal.outages import OUTAGES, explain_outage
from cli.terminal.output import counted, print_json, say
from cli.terminal.tables import print_table, table
from outbox.figures import RelayFigures, ask_relay
from outbox.relay.backlog import Backlog, read_backlog
from outbox.relay.leadership import Leader, read_leader
from outbox.settings import RelayAddress
from projectors.operations.lag import GenerationLag, measure
from projectors.settings import OperatorProjectorSettings


class LagSettings(OperatorCommandPostgres, RelayAddress, OperatorProjectorSettings):
    """Both databases and the relay: an operator's tool may know them all."""


@dataclass(frozen=True, slots=True)
class _Findings:
    backlog: Backlog
    leader: Leader | None
    relay: RelayFigures
    projections: list[GenerationLag]


def lag(
    *,
    partitions: Annotated[bool, typer.Option("--partitions", help="Show every partition.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON, with every partition.")] = False,
) -> None:
    """Show the outbox's backlog, what the relay does, and how far each generation of each projection is behind."""
    settings = load(LagSettings)
    try:
        found = asyncio.run(_measure(settings))
    except OUTAGES as error:
        explain_outage(error)
    if as_json:
        print_json(_report(found))
        return
    backlog, leader = found.backlog, found.leader
    about = "about " if backlog.estimated else ""
    oldest = f", the oldest {backlog.oldest_seconds:,.1f} s old" if backlog.events else ""
    aside = f"; {counted(backlog.set_aside, 'row')} set aside" if backlog.set_aside else ""
    say(f"outbox: {about}{counted(backlog.events, 'event')} to publish{oldest}{aside}")
    say(f"relays: {_words(leader)}")
    for line in relay_lines(found.relay):
        say(line)
    print_table(_table(found.projections, partitions=partitions))
    for one in found.projections:
        if one.reason:
            say(f"{one.projection} generation {one.number} is {one.state}: {one.reason}")


async def _measure(settings: LagSettings) -> _Findings:
    async with (
        Database.open(settings.command_database, application="muster-lag") as command,
        Database.open(settings.query_database, application="muster-lag") as query,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        relay = await ask_relay(settings, http)
        async with command.connection() as connection:
            backlog, leader = await read_backlog(connection), await read_leader(connection)
        return _Findings(backlog, leader, relay, await measure(settings, query))


def _words(leader: Leader | None) -> str:
    if leader is None:
        return "none leads: nothing is published"
    return f"{leader.instance} leads" + (f", for {leader.seconds:,.0f} s" if leader.seconds is not None else "")


def _report(found: _Findings) -> dict[str, Any]:
    return {
        "outbox": asdict(found.backlog),
        "leader": asdict(found.leader) if found.leader else None,
        "relay": relay_document(found.relay),
        "projections": [_document(one) for one in found.projections],
    }


def _table(found: list[GenerationLag], *, partitions: bool) -> Table:
    listed = table("projection", "generation", "status", "state", "partition", "records", "seconds")
    for one in found:
        records, seconds = _records(one.records), _seconds(one.seconds)
        listed.add_row(one.projection, str(one.number), one.status, one.state, "all", records, seconds)
        for part in one.partitions if partitions else ():
            listed.add_row("", "", "", "", str(part.partition), _records(part.records), _seconds(part.seconds))
    return listed


def _records(records: int | None) -> str:
    return "unknown" if records is None else f"{records:,}"


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:,.1f}"


def _document(one: GenerationLag) -> dict[str, Any]:
    return {
        "projection": one.projection,
        "generation": one.number,
        "status": one.status,
        "state": one.state,
        "reason": one.reason or None,
        "records": one.records,
        "seconds": one.seconds,
        "partitions": [asdict(part) for part in one.partitions],
    }
