"""Tables on standard output, with every value in full, however narrow the terminal."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Column, Table

#: Width where there is no terminal: wide enough that each row stays one line, which suits grep.
UNBOUNDED_COLUMNS: Final = 1000


def table(*headings: str, whole: str = "") -> Table:
    """Return a table with these columns; values that do not fit are folded, except in the column `whole`."""
    return Table(*(Column(heading, overflow="fold", no_wrap=heading == whole) for heading in headings))


def print_table(shown: Table) -> None:
    """Print a table as wide as the terminal, or in its full width where there is none."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=UNBOUNDED_COLUMNS)
    console.print(shown)
