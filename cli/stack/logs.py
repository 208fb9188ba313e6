"""`muster logs`: shows what the processes of the local stack write."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.stack.discovery import FolderOption, stack_folder
from cli.stack.screen import Screen
from cli.terminal.output import fail
from local_stack.logs import last_lines


def logs(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Processes; all without.")] = None,
    folder: FolderOption = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of each from before.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Show the last lines of every log of the local stack, and follow them with --follow."""
    place = stack_folder(folder) / "logs"
    found = {log.stem: log for log in sorted(place.glob("*.log"))}
    if not found:
        fail(f"There are no logs in {place}: no stack has run there.")
    unknown = [name for name in names or [] if name not in found]
    if unknown:
        fail(f"There is no log of {' or '.join(unknown)}: there are {', '.join(found)}.", code=2)
    chosen = {name: log for name, log in found.items() if not names or name in names}
    screen = Screen(Console(highlight=False))
    for name, log in chosen.items():
        for line in last_lines(log, lines) if lines else []:
            screen.line(name, line)
    if follow:
        with suppress(KeyboardInterrupt):
            asyncio.run(_follow(screen, chosen))


async def _follow(screen: Screen, logs: Mapping[str, Path]) -> None:
    async with asyncio.TaskGroup() as group:
        for name, log in logs.items():
            group.create_task(screen.follow(name, log))
