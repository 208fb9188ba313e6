"""`muster`: one program for operators and for every process of ours.

A command's module is imported when the command is used: the relay does not pay for the web framework, nor does the help
page for all of them. Exit codes: 0 done, 1 failed, 2 wrong use or settings.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup

from chassis import __version__
from chassis.settings import SettingsError
from cli.output import explain_settings

#: Name of the command -> the function or group that is it, as `module:attribute`; in the order of the help page.
COMMANDS: Final = {
    "up": "cli.up:up",
    "demo": "cli.demo:demo",
    "migrate": "cli.migrate:migrate",
    "topics": "cli.topics:topics",
    "serve": "cli.serve:app",
    "relay": "cli.relay:relay",
    "project": "cli.project:project",
    "doctor": "cli.doctor:doctor",
}


class LazyGroup(TyperGroup):
    """The root command, whose subcommands are imported on use."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is typer's
        """Every command, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the signature is typer's
        """The command of that name, None where there is none."""
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        found = getattr(import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False)
            single.command(cmd_name)(found)
            found = single
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich"
)


@app.callback()
def root(*, version: bool = typer.Option(default=False, help="Print the version and end.", is_eager=True)) -> None:
    """Event-driven user service: commands in, events out through Kafka, read tables behind a query API."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the `muster` script."""
    # Libraries that log before (or without) a service's logging is set up speak to nobody: errors are told by us.
    logging.lastResort = None
    try:
        app()
    except SettingsError as error:
        explain_settings(error)
        sys.exit(2)


if __name__ == "__main__":
    main()
