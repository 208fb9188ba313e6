"""`muster`: one program for operators and for every process of Muster.

A command's module is imported when the command is used, so the relay does not pay for the web framework, nor the help
page for everything. Exit codes: 0 done, 1 failed, 2 wrong use or settings.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from chassis import __version__
from chassis.last_words import last_words, on_crash
from chassis.settings_error import SettingsError
from cli.terminal.output import say_aside


@dataclass(frozen=True, slots=True)
class Lazy:
    """A command that is not imported yet: where its function or group is, and its line on the help page."""

    target: str
    help: str


#: These start the local stack or are part of an installation. All others are an operator's: where no server is named,
#: they use the stack that `muster up` runs here.
NOT_OPERATORS: Final = frozenset(
    {"up", "logs", "reset", "token", "issuer", "secrets", "passwords", "serve", "relay", "project"}
)

#: Every command, in the order of the help page.
COMMANDS: Final = {
    "up": Lazy("cli.stack.up:up", "Start PostgreSQL, Kafka and every process of Muster here; Ctrl-C stops them."),
    "logs": Lazy("cli.stack.logs:logs", "Show what the processes of the local stack write."),
    "reset": Lazy("cli.stack.reset:reset", "Delete the local stack's data, after asking."),
    "token": Lazy("cli.access.token:token", "Print an access token of the local stack, or of an issuer in a folder."),
    "issuer": Lazy("cli.access.issuer:app", "Keep an issuer of tokens in a folder."),
    "secrets": Lazy("cli.secret_files:secrets", "Make the secrets of an installation in containers, a file each."),
    "passwords": Lazy("cli.passwords:app", "Make the list of passwords that nobody may choose."),
    "console": Lazy("cli.access.console:app", "Sign in to the console."),
    "demo": Lazy("cli.demo:demo", "Register users, show their events, and read each back with its token."),
    "roles": Lazy("cli.roles.command:roles", "Make the roles of a database with the least rights, or check them."),
    "migrate": Lazy("cli.migrate:migrate", "Migrate a database; harmless to repeat, safe while services run."),
    "topics": Lazy("cli.topics:topics", "Create the topics that are missing, configure the others, give rights."),
    "serve": Lazy("cli.processes.serve:app", "Serve one of the APIs, or the console."),
    "relay": Lazy(
        "cli.processes.relay:relay", "Publish the outbox to Kafka, each event exactly once; a second one stands by."
    ),
    "project": Lazy("cli.processes.project:project", "Follow the events and keep the read tables up to date."),
    "import": Lazy("cli.importing.command:import_file", "Import users from a file, chunk by chunk; resumable."),
    "users": Lazy("cli.users:app", "Show one user, deactivate it, or reset its password by a one-time token."),
    "erasures": Lazy("cli.erasures:erasures", "Who was erased; who has read that, and whether the log has forgotten."),
    "events": Lazy("cli.events.command:app", "Look at the published events."),
    "lag": Lazy("cli.operations.lag:lag", "Show how far outbox and projections are behind, in records and seconds."),
    "rebuild": Lazy(
        "cli.operations.rebuild:app", "Build a projection's tables anew beside those that serve, and switch."
    ),
    "parked": Lazy(
        "cli.operations.parked:app", "Records that a projection could not apply, and what waits behind them."
    ),
    "outbox": Lazy("cli.operations.outbox:app", "A row of the outbox that the relay cannot publish."),
    "audit": Lazy("cli.operations.audit:audit", "Compare every user on both sides; changes nothing."),
    "repair": Lazy("cli.operations.repair:repair", "Write users anew on the read side, as the command side has them."),
    "doctor": Lazy("cli.doctor.command:doctor", "Check everything that Muster depends on; exit 1 if anything fails."),
}


class LazyGroup(TyperGroup):
    """The root command, whose subcommands are imported on use."""

    #: True while the help page is written, which needs only their lines.
    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is typer's
        """Return the names of all commands, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the signature is typer's
        """Return the command of that name; None where there is none."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        if self._listing:
            return TyperCommand(cmd_name, help=lazy.help)
        if cmd_name not in NOT_OPERATORS:
            from cli.stack.discovery import use_local_stack  # noqa: PLC0415 - processes have no use for it

            use_local_stack()
        return load_command(cmd_name, lazy)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help page."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False


def load_command(name: str, lazy: Lazy) -> Any:
    """Import a command; a plain function is made a typer command."""
    module, _, attribute = lazy.target.partition(":")
    found = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode="rich")
        single.command(name)(found)
        found = single
    command = typer.main.get_command(found)
    command.name = name
    return command


app = typer.Typer(
    cls=LazyGroup,
    invoke_without_command=True,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def root(*, version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    """Event-driven user service: commands in, events out through Kafka, read tables behind a query API."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the `muster` script."""
    # Otherwise what a library logs before logging is configured would be on the terminal, beside our own errors.
    logging.getLogger().addHandler(logging.NullHandler())
    on_crash(_print_last_words)
    try:
        # `app()` would put typer's own last words in the place of ours.
        typer.main.get_command(app)()
    except SettingsError as error:
        say_aside(str(error))
        if {*sys.argv[1:2]} & (COMMANDS.keys() - NOT_OPERATORS):
            say_aside("(No local stack runs here either; `make up`, or `muster up`, starts one.)")
        sys.exit(2)


def _print_last_words(_: str, error: BaseException) -> None:
    """For a person at a terminal; a process that logs tells it as a line of its log."""
    say_aside(last_words(error))


if __name__ == "__main__":
    main()
