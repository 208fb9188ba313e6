"""Tables on standard output: nothing of a value is left out, however narrow the terminal."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Column, Table

#: Where no terminal says how wide it is: a table takes what it needs of it, and one line stays one line for grep.
UNBOUNDED_COLUMNS: Final = 1000


def table(*headings: str, whole: str = "") -> Table:
    """A table with these columns, whose values are folded where they do not fit, but for the column `whole`."""
    return Table(*(Column(heading, overflow="fold", no_wrap=heading == whole) for heading in headings))


def print_table(shown: Table) -> None:
    """Print a table as wide as the terminal, or as it is where there is none."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=UNBOUNDED_COLUMNS)
    console.print(shown)
