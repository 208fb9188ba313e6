"""`muster users show|deactivate|reset`: one user, for an operator without a console, over HTTP as any other client."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import httpx
import typer

from chassis.identifiers import read_id
from chassis.settings import load
from cli.access.address import CommandApiAddress, QueryApiAddress
from cli.access.calls import CallRefusedError, answer, client, explained
from cli.access.token import read_lifetime
from cli.terminal.output import JsonOption, fail, legible, print_json, say, say_aside, say_json

#: Reads the users of `reset` from standard input.
_STDIN: Final = "-"

app = typer.Typer(no_args_is_help=True, add_completion=False, help="One user: show, deactivate, reset the password.")

User = dict[str, Any]
Who = Annotated[str, typer.Argument(help="The user's id, e-mail address or username.", metavar="ID|NAME")]
Several = Annotated[
    str,
    typer.Argument(help="The user's id, e-mail address or username; - reads many, one a line.", metavar="ID|NAME|-"),
]


class UsersSettings(CommandApiAddress, QueryApiAddress):
    """The addresses at which a user is found, and changed."""


@app.command()
def show(who: Who, *, as_json: JsonOption = False) -> None:
    """Show a user as the query API has them."""
    with explained(), client(load(QueryApiAddress).public_query_url) as query:
        user = _find(query, who)
    if as_json:
        print_json(user)
        return
    for name, value in user.items():
        say(f"{name}: {legible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))}")


@app.command()
def deactivate(
    who: Who,
    *,
    reason: Annotated[str | None, typer.Option(help="Why; published with the event.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Deactivate a user, after asking: from then on they can only be reactivated or erased."""
    addresses = load(UsersSettings)
    with explained(), client(addresses.public_query_url) as query, client(addresses.public_command_url) as command:
        user = _find(query, who)
        _ask(f"Deactivate {_named(user)}?", yes=yes)
        after = answer("command", lambda: command.post(f"/users/{user['id']}/deactivate", json={"reason": reason}))
    say(f"{_named(after)} is deactivated.")


@app.command()
def reset(
    who: Several,
    *,
    ttl: Annotated[str, typer.Option(help="How long it is good: a number and s, m, h or d; 7d at most.")] = "1h",
    rejects: Annotated[
        Path | None, typer.Option(help="With -: where the names of those go who have no token, to be given again.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Issue a one-time token, with which the user sets a new password; an older one ends."""
    seconds = round(read_lifetime(ttl).total_seconds())
    addresses, many = load(UsersSettings), who == _STDIN
    if rejects and not many:
        fail("--rejects goes with - alone: one user is refused on standard error.", code=2)
    with (
        explained(),
        client(addresses.public_query_url, patient=many) as query,
        client(addresses.public_command_url, patient=many) as command,
    ):

        def issue(name: str) -> dict[str, Any]:
            user = _find(query, name)
            body = {"purpose": "password-reset", "ttl_seconds": seconds}
            issued = answer("command", lambda: command.post(f"/users/{user['id']}/one-time-tokens", json=body))
            return {"user_id": user["id"], **{name: user[name] for name in ("email", "username")}, **issued}

        if many:
            _reset_all(issue, rejects)
        else:
            _show_token(issue(who), as_json=as_json)


def _show_token(issued: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(issued)
        return
    say(issued["token"])
    whose = _named({"id": issued["user_id"], **issued})
    # A variable takes the token alone.
    say_aside(f"It sets a new password for {whose}, once, until {issued['expires_at']}.")


def _reset_all(issue: Callable[[str], dict[str, Any]], rejects: Path | None) -> None:
    """Print a line of JSON for each user whom standard input names; who is refused is told, and fails the command.

    The names of those who have no token in the end, refused or not reached, are then in `rejects`, one a line.
    """
    waiting, refused = deque(name for line in sys.stdin if (name := line.strip())), list[str]()
    with _written(rejects) as file:
        try:
            while waiting:
                try:
                    say_json(issue(waiting[0]))
                except CallRefusedError as error:
                    refused.append(waiting[0])
                    say_aside(f"{legible(waiting[0])}: {error}")
                waiting.popleft()
        except httpx.HTTPError:
            say_aside(f"It ended before {legible(waiting[0])}.")
            raise
        finally:
            file.writelines(f"{name}\n" for name in (*refused, *waiting))
    if refused:
        raise typer.Exit(1)


@contextmanager
def _written(path: Path | None) -> Iterator[TextIO]:
    """The file, empty at first; where there is none, what is written goes nowhere."""
    if path is None:
        yield StringIO()
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        fail(f"Cannot write {path}: {error.strerror}.", code=2)
    with file:
        yield file


def _find(query: httpx.Client, who: str) -> User:
    """The user of this id, address or name; users that were moved here may have ids of elsewhere for names."""
    called = name = "email" if "@" in who else "username"
    try:
        user_id = read_id(who)
    except ValueError:
        pass
    else:
        called = "id or username"
        found = query.get(f"/users/{user_id}")
        if found.status_code != HTTPStatus.NOT_FOUND:
            return dict(answer("query", lambda: found))
    users = answer("query", lambda: query.post("/users/search", json={name: who, "limit": 2}))["data"]
    if len(users) == 1:
        return dict(users[0])
    # An address that was freed can for a moment be at its old and its new owner.
    raise CallRefusedError(f"{'More than one user has' if users else 'No user has'} the {called} {legible(who)}.")


def _ask(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        fail("Nothing was changed: say --yes where nobody can be asked.", code=2)
    if not typer.confirm(question):
        fail("Nothing was changed.")


def _named(user: User) -> str:
    return f"{legible(user['username'])} <{legible(user['email'])}> ({user['id']})"
