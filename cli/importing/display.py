"""Shows how far an import is, while it runs: a bar on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from cli.importing.progress import ImportProgress

#: Seconds between two plain lines: a log of an hour has 360.
PLAIN_SECONDS: Final = 10.0


class Display:
    """Shows rate, refusals, and the time that is left; on standard error, since standard output is the report's."""

    def __init__(
        self, progress: ImportProgress, console: Console, *, quiet: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`progress` is where the import begins; `clock` gives seconds."""
        self._console = console
        self._quiet = quiet
        self._clock = clock
        self._began = self._shown = clock()
        self._first_line, self._first_byte = progress.line, progress.offset
        text = TextColumn("{task.description}")
        self._bar = Progress(BarColumn(), DownloadColumn(), text, console=console, disable=not self._has_bar)
        self._task = self._bar.add_task("", total=progress.size or None, completed=progress.offset)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the bar where it is."""
        self._bar.stop()

    @property
    def _has_bar(self) -> bool:
        return self._console.is_terminal and not self._quiet

    def show(self, progress: ImportProgress) -> None:
        """Say how far it is now."""
        now = self._clock()
        text = self._describe(progress, max(now - self._began, 0.001))
        self._bar.update(self._task, completed=progress.offset, description=text)
        if self._has_bar or self._quiet or now < self._shown + PLAIN_SECONDS:
            return
        self._shown = now
        self._console.print(text, highlight=False)

    def _describe(self, progress: ImportProgress, seconds: float) -> str:
        rate = (progress.line - self._first_line) / seconds
        text = f"{progress.line:,} lines, {rate:,.0f}/s, {progress.failed:,} refused"
        read = progress.offset - self._first_byte
        if not progress.size or not read:
            return text  # how long standard input is nobody knows
        left = timedelta(seconds=round((progress.size - progress.offset) * seconds / read))
        return f"{text}, {left} left"
