"""`muster parked list|show|retry|discard`: records that a projection could not apply, and what waits behind them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer
from rich.text import Text

from chassis.postgres.database import Database
from chassis.settings import OperatorQueryPostgres, load
from cli.operations.projections import known_projection
from cli.terminal.outages import with_database
from cli.terminal.output import JsonOption, as_text, legible, print_json, say, say_aside, say_fields
from cli.terminal.tables import print_table, table
from projectors.operations import parked
from projectors.operations.parked import (
    Counted,
    NoSuchRecordError,
    OtherShapeError,
    ParkedRecord,
    RecordId,
    Summary,
    SuspiciousError,
    WorkedOff,
)

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Records that a projection could not apply, and what waits behind them.",
)

RecordArgument = Annotated[
    str, typer.Argument(help="As `muster parked list` shows it, such as users/1/3/42.", metavar="ID")
]


ProjectionOption = Annotated[
    str | None, typer.Option("--projection", help="Only of this projection.", callback=known_projection)
]


@app.command("list")
def list_(
    *,
    projection: ProjectionOption = None,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Begin behind this record.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List what is parked, in the order of the topic, 500 at once."""
    found, counted = _with_database(lambda database: _found(database, projection, after))
    if as_json:
        print_json(
            [
                {
                    "id": str(s.id),
                    "user_id": s.subject_id,
                    "suspicious": s.suspicious,
                    "error": s.error,
                    "parked_at": s.parked_at,
                    "bytes": s.bytes,
                }
                for s in found
            ]
        )
        _tell_of_more(found, projection, say_aside, " --json")
        return
    for some in counted:
        say(
            f"{some.projection} generation {some.generation} only counted {some.records:,} records, of"
            f" {some.topic} partition {some.partition}, offsets {some.first_offset} to {some.last_offset}"
        )
    if not found:
        say("Nothing is parked." if after is None else "Nothing is parked behind that record.")
        return
    listed = table("id", "user", "parked at", "bytes", "why", whole="id")
    for item in found:
        why = "waits behind an earlier one" if item.error is None else item.error
        why = f"suspicious: {why}" if item.suspicious else why
        listed.add_row(
            str(item.id),
            str(item.subject_id or "(no key)"),
            f"{item.parked_at:%F %T}",
            str(item.bytes),
            Text(legible(why)),
        )
    print_table(listed)
    _tell_of_more(found, projection, say)


def _tell_of_more(found: list[Summary], projection: str | None, tell: Callable[[str], None], form: str = "") -> None:
    if len(found) < parked.LIST_RECORDS:
        return
    last = found[-1].id
    if projection is None:
        tell(f"There may be more: `muster parked list --after {last}{form}`")
    else:
        tell(f"There may be more: `muster parked list --projection {projection} --after {last}{form}`")


async def _found(database: Database, projection: str | None, after: str | None) -> tuple[list[Summary], list[Counted]]:
    last = None if after is None else RecordId.parse(after)
    return await parked.summaries(database, projection, after=last), await parked.counted(database, projection)


@app.command()
def show(record: RecordArgument, *, as_json: JsonOption = False) -> None:
    """Show one parked record: key, headers, value, and why it is parked."""
    document = _document(_with_database(lambda database: parked.find(database, RecordId.parse(record))))
    (print_json if as_json else say_fields)(document)


@app.command()
def retry(
    record: Annotated[str | None, typer.Argument(help="Only this record's queue; without it, every queue.")] = None,
    *,
    projection: ProjectionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Apply parked records in order, each user's until one fails again; exit code 1 when some remain."""
    outcome = _with_database(
        lambda database: (
            parked.retry_all(database, projection)
            if record is None
            else parked.retry_record(database, RecordId.parse(record))
        )
    )
    _report(outcome, as_json=as_json)
    raise typer.Exit(1 if outcome.remaining else 0)


@app.command()
def discard(
    record: Annotated[str | None, typer.Argument(help="As `muster parked list` shows it.", metavar="ID")] = None,
    *,
    suspicious: Annotated[
        bool,
        typer.Option(
            "--suspicious",
            help="Instead: every suspicious record, and what was only counted; repair whom they name first.",
        ),
    ] = False,
    projection: ProjectionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove one parked record for good, and apply what waited behind it; or all that are suspicious."""
    if suspicious == (record is not None):
        raise typer.BadParameter("give either the id of one record or --suspicious")
    if record is None:
        outcome = WorkedOff(0, _with_database(lambda database: parked.discard_suspicious(database, projection)), 0)
    else:
        outcome = _with_database(lambda database: parked.discard_record(database, RecordId.parse(record)))
    _report(outcome, as_json=as_json)


def _report(outcome: WorkedOff, *, as_json: bool) -> None:
    if as_json:
        print_json({"applied": outcome.applied, "discarded": outcome.discarded, "remaining": outcome.remaining})
        return
    say(f"{outcome.applied} applied, {outcome.discarded} discarded, {outcome.remaining} still parked")


def _document(item: ParkedRecord) -> dict[str, Any]:
    return {
        "id": str(item.id),
        "topic": item.topic,
        "user_id": str(item.subject_id or item.suspect_id) if item.subject_id or item.suspect_id else None,
        "suspicious": item.is_suspicious,
        "error": item.error,
        "recorded_at": item.recorded_at,
        "parked_at": item.parked_at,
        "key": as_text(item.key),
        "headers": [[name, as_text(value)] for name, value in item.headers],
        "value": as_text(item.value),
    }


def _with_database(work: Callable[[Database], Awaitable[T]]) -> T:
    address = load(OperatorQueryPostgres).query_database
    refusals = (NoSuchRecordError, OtherShapeError, SuspiciousError)
    return with_database(address, work, application="muster-parked", refusals=refusals)
