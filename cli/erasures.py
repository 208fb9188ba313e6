"""`muster erasures [ID]`: who was erased, and the receipt of one: who has read it, and what the log still has."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from chassis.identifiers import read_id
from chassis.settings import load
from cli.access.address import EventApiAddress
from cli.access.calls import answer, client, explained
from cli.terminal.output import JsonOption, fail, print_json, say
from cli.terminal.tables import print_table, table

Erasure = dict[str, Any]

_PAST: Final = {True: "has read it", False: "has not read it", None: "cannot be told"}


def erasures(
    user_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Whose receipt; default: list them.")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many to list, the newest first.")] = 20,
    before: Annotated[str | None, typer.Option(metavar="ID", help="List those before this user's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List who was erased, or show one's receipt: which subscribers have read it, and whether the log has forgotten."""
    if user_id is not None and before is not None:
        fail("--before is for the list; leave it out, or ID.", code=2)
    path = "/erasures" if user_id is None else f"/erasures/{_id(user_id, 'ID')}"
    asked = {} if user_id else {"limit": limit} | ({"before": _id(before, "--before")} if before is not None else {})
    with explained(), client(load(EventApiAddress).public_events_url) as events:
        found = answer("event", lambda: events.get(path, params=asked))
    if as_json:
        print_json(found)
    elif user_id is None:
        _list(found, is_first=before is None)
    else:
        _show(found)


def _id(text: str, name: str) -> str:
    try:
        return str(read_id(text))
    except ValueError as error:
        fail(f"{name} {error}.", code=2)


def _list(page: dict[str, Any], *, is_first: bool) -> None:
    found: list[Erasure] = page["data"]
    if not found:
        say("Nobody was erased." if is_first else "Nobody was erased before that user.")
        return
    shown = table("user", "erased at", "tombstone", "log", whole="user")
    for each in found:
        shown.add_row(each["user_id"], each["erased_at"] or "not known", _place(each), _log(each))
    print_table(shown)
    if page["next"] is not None:
        say(f"There may be more: `muster erasures --before {page['next']}`")


def _show(receipt: Erasure) -> None:
    say(f"user: {receipt['user_id']}")
    say(f"erased at: {receipt['erased_at'] or 'not known'}")
    say(f"tombstone: {_place(receipt)}")
    say(f"log: {_log(receipt)}")
    for each in receipt["subscribers"]:
        say(f"subscriber {each['name']}: {_PAST[each['past']]}")
    if not receipt["subscribers"]:
        say("subscribers: none has registered")
    say("--json has the signature.")


def _place(erasure: Erasure) -> str:
    return "not known" if erasure["partition"] is None else f"{erasure['partition']}:{erasure['offset']}"


def _log(erasure: Erasure) -> str:
    match erasure["log"]:
        case {"forgotten": True}:
            return "has forgotten"
        case {"forgotten": False, "expected_by": when}:
            return f"has not forgotten, which was expected by {when}"
        case {"expected_by": None}:
            return "not known"
        case {"expected_by": when}:
            return f"forgets by {when}"
        case other:
            raise AssertionError(other)
