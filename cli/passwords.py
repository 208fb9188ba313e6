"""`muster passwords`: the list of passwords that nobody may choose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.terminal.output import JsonOption, counted, fail, print_json, say
from command_api.passwords.blocklist_build import WrongLineError, build

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def passwords() -> None:
    """The list of passwords that nobody may choose."""


@app.command("build")
def build_list(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="LIST", exists=True, dir_okay=False, help="One password, or the SHA-1 of one, a line; UTF-8."
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="What is made, or replaced.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Make the file for PASSWORD_BLOCKLIST_FILE from a list of passwords, or of their SHA-1, of any size."""
    try:
        with source.open("rb") as lines:
            built = build(lines, target)
    except WrongLineError as error:
        fail(f"{source}: {error}")
    except OSError as error:
        fail(f"{target} cannot be made of {source}, and is as it was: {error.strerror}")
    if as_json:
        print_json(built._asdict())
        return
    say(
        f"{target} has {counted(built.entries, 'entry').replace('entrys', 'entries')} of {counted(built.lines, 'line')}"
    )
    say(f"Start the command API with PASSWORD_BLOCKLIST_FILE={target.absolute()}")
