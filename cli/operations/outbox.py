"""`muster outbox show|set-aside|put-back|drop`: what to do with a row that the relay cannot publish."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer
from rich.text import Text

from chassis.postgres.database import Connection, Database
from chassis.settings import OperatorCommandPostgres, load
from cli.terminal.operator import operator
from cli.terminal.outages import with_database
from cli.terminal.output import JsonOption, as_text, print_json, say, say_fields, shown
from cli.terminal.tables import print_table, table
from command_api import damaged_rows
from command_api.damaged_rows import RowRefusedError
from command_api.republication import Operation
from events.user_events import USER_EVENTS
from outbox.damage import Examiner
from outbox.headers import decode_headers
from outbox.set_aside import held_rows, rows_behind

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="A row of the outbox that the relay cannot publish, by its id."
)

RowArgument = Annotated[int, typer.Argument(help="As the relay, /readyz and doctor name it.", metavar="ID", min=1)]


@app.command()
def show(
    row: Annotated[
        int | None, typer.Argument(help="As the relay, /readyz and doctor name it.", metavar="[ID]", min=1)
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show a row: whose, what is wrong with it, its headers and value, and how many events wait behind it.

    Without an id, list the rows for which others wait.
    """
    if row is None:
        _list(_with_database(_held), as_json=as_json)
        return
    document = _with_database(lambda connection: _document(connection, row))
    (print_json if as_json else say_fields)(document)


@app.command("set-aside")
def set_aside(row: RowArgument) -> None:
    """Take a damaged row out, and keep it byte for byte: its user's later events wait for it, all others flow."""
    if not _with_database(lambda connection: damaged_rows.set_aside(connection, row)):
        say(f"Row {row} is deleted and not kept, because its user has been erased. The other events flow.")
        return
    say(
        f"Row {row} is set aside. Its user's later events wait, all others flow. `muster outbox put-back {row}` has the"
        f" relay try again; `muster outbox drop {row}` publishes a snapshot of the user instead of it."
    )


@app.command("put-back")
def put_back(row: RowArgument) -> None:
    """Put a row that was set aside in its place again, unchanged; its user's later events follow it."""
    _with_database(lambda connection: damaged_rows.put_back(connection, row))
    say(f"Row {row} is back in its place in the outbox.")


@app.command()
def drop(row: RowArgument) -> None:
    """Remove a row that was set aside for good: a snapshot of the user at that version takes its place."""
    operation = Operation(operator())
    event = _with_database(lambda connection: damaged_rows.drop(connection, row, operation))
    what = "tombstone" if event.value is None else "snapshot"
    say(f"Row {row} is dropped. A {what} of {event.subject_id} is published in its place.")


def _list(held: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(held)
    elif not held:
        say("No row is damaged or set aside.")
    else:
        listed = table("row", "user", "who waits", "set aside at", "what is wrong")
        for one in held:
            since = one["set_aside_at"]
            who, when = ("everybody", "no") if since is None else ("this user", f"{since:%F %T}")
            listed.add_row(str(one["id"]), shown(one["user_id"]), who, when, Text(shown(one["damage"])))
        print_table(listed)


async def _held(connection: Connection) -> list[dict[str, Any]]:
    return [
        {"id": row["id"], "user_id": row["subject_id"], "set_aside_at": row["set_aside_at"], "damage": row["damage"]}
        for row in await held_rows(connection)
    ]


async def _document(connection: Connection, number: int) -> dict[str, Any]:
    row = await damaged_rows.find(connection, number)
    behind = await rows_behind(connection, row["subject_id"], number)
    return {
        "id": row["id"],
        "user_id": row["subject_id"],
        "event_id": row["event_id"],
        "appended_at": row["appended_at"],
        "set_aside_at": row["set_aside_at"],
        # The relay knows more than can be seen from here.
        "damage": row["damage"] or Examiner(USER_EVENTS).damage_of(row),
        "events_behind": len(behind),
        "headers": _headers(row["headers"]),
        "value": as_text(row["value"]),
    }


def _headers(encoded: bytes | None) -> list[list[str | None]] | str | None:
    """The headers by name and value; a value that is no headers stays as it is."""
    try:
        return None if encoded is None else [[name, as_text(value)] for name, value in decode_headers(encoded)]
    except ValueError:
        return as_text(encoded)


def _with_database(work: Callable[[Connection], Awaitable[T]]) -> T:
    async def main(database: Database) -> T:
        async with database.connection() as connection:
            return await work(connection)

    address = load(OperatorCommandPostgres).command_database
    return with_database(address, main, application="muster-outbox", refusals=(RowRefusedError,))
