"""What `muster up` shows: each step with its time, what runs where, and what goes wrong.

On a terminal a step has a spinner or a bar; elsewhere (a file, CI) it is one line when it is done.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from local_stack.errors import ChildFailedError
from local_stack.logs import size_of
from local_stack.processes.child import Child
from local_stack.stack_file import ProcessEntry

# Lines of a log shown when its process dies and is started again: the reason, without drowning the terminal.
LINES_AFTER_DEATH = 5

# Between two looks at the logs with --verbose: at once for a reader, and next to no work for the machine.
LOG_POLL_SECONDS = 0.2

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_red", "bright_cyan", "bright_magenta")


class _SecondsColumn(ProgressColumn):
    """How long a step has taken so far, or took."""

    def render(self, task: Task) -> Text:
        seconds = task.finished_time if task.finished else task.elapsed
        return Text(f"{seconds or 0:.1f} s", style="dim")


class _BarColumn(BarColumn):
    """A bar for steps whose amount of work is known; nothing for the others."""

    def render(self, task: Task) -> ProgressBar | Text:  # type: ignore[override] # a column may show anything
        return super().render(task) if task.fields["measured"] else Text()


Advance = Callable[[int], None]


class Screen:
    """Writes to the terminal; also the supervisor's observer."""

    def __init__(self, console: Console, age: float = 0.0) -> None:
        """`age`: for how many seconds this process has existed; steps are timed from its beginning."""
        self.console = console
        self._birth = time.monotonic() - age
        self._began: dict[str, float] = {}
        self.on_change: Callable[[], None] = lambda: None  # called when a process is ready, the first time or again
        self.durations: dict[str, float] = {"Program": age}
        self._colours: dict[str, str] = {}
        self._seen: set[Child] = set()
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            _SecondsColumn(),
            _BarColumn(bar_width=24),
            console=console,
            disable=not console.is_terminal,
        )

    @property
    def age(self) -> float:
        """Seconds since this process began."""
        return time.monotonic() - self._birth

    def timings(self) -> list[dict[str, str | float]]:
        """Return each step: its name, its beginning in seconds since this process began, and how long it took."""
        return [
            {"step": name, "began": round(self._began.get(name, 0.0), 3), "seconds": round(seconds, 3)}
            for name, seconds in self.durations.items()
        ]

    @contextmanager
    def steps(self) -> Iterator[None]:
        """Show steps for the time of the context."""
        with self._progress:
            yield

    @contextmanager
    def step(self, name: str, *, total: int | None = None) -> Iterator[Advance]:
        """Show one step for the time of the context; yield a function that moves the bar, where there is a total."""
        began = time.monotonic()
        self._began[name] = began - self._birth
        task = self._progress.add_task(name, total=total, measured=total is not None)
        yield lambda amount: self._progress.advance(task, amount)
        self.durations[name] = time.monotonic() - began
        self._finish(task, name)

    def _finish(self, task: TaskID, name: str) -> None:
        self._progress.update(task, total=1, completed=1, measured=False)
        if not self.console.is_terminal:
            self.console.print(f"✓ {name} {self.durations[name]:.1f} s")

    def started(self, child: Child) -> None:
        """A child is ready."""
        if child in self._seen:
            self.console.print(f"[green]✓[/] {self._coloured(child.name)} is back (process {child.pid}).")
        self._seen.add(child)
        self.on_change()

    def died(self, child: Child, what: str, restart_in: float) -> None:
        """A child ended unexpectedly."""
        self.console.print(
            f"[bold red]✗[/] {self._coloured(child.name)} {escape(what)}; starting it again in {restart_in:.1f} s."
        )
        for line in child.last_lines(LINES_AFTER_DEATH):
            self.line(child.name, line)

    def stopping(self, children: Sequence[Child]) -> None:
        """Children are asked to end."""
        self.console.print(f"Stopping {' and '.join(self._coloured(child.name) for child in children)} …")

    def line(self, name: str, text: str) -> None:
        """Show one line of a process's log."""
        self.console.print(f"{self._coloured(name)} [dim]│[/] {escape(text)}", soft_wrap=True, highlight=False)

    def failure(self, failure: ChildFailedError, remedy: str = "") -> None:
        """Explain why the stack ends: first the end of the log, then reason and remedy, where a reader looks."""
        for line in failure.last_lines:
            self.console.print(f"[dim]│[/] {escape(line)}", soft_wrap=True, highlight=False)
        self.trouble(f"{failure}. {remedy}" if remedy else str(failure))

    def trouble(self, message: str) -> None:
        """Show a message that says what is wrong and what to do."""
        self.console.print(f"[bold red]✗[/] {escape(message)}", soft_wrap=True, highlight=False)

    def ready(self, entries: Sequence[ProcessEntry], logs: Path) -> None:
        """Show what runs where, and how long each step took."""
        table = Table("", "where", "process", title=f"Muster is ready after {self.age:.1f} s", title_style="bold")
        for entry in entries:
            table.add_row(entry.name, entry.where, str(entry.pid))
        self.console.print(table)
        parts = (f"{name} {taken:.1f} s" for name, taken in self.durations.items())
        self.console.print(f"[dim]{' · '.join(parts)}[/]", soft_wrap=True, highlight=False)
        self.console.print(f"[dim]Logs are in {escape(str(logs))}[/]", soft_wrap=True, highlight=False)

    def suggest(self, commands: Sequence[tuple[str, str]]) -> None:
        """Show commands worth trying, each after what it does."""
        self.console.print("\nTry, in another terminal:")
        for what, command in commands:
            self.console.print(f"  [dim]# {escape(what)}[/]\n  {escape(command)}", soft_wrap=True, highlight=False)

    def open_console(self, address: str, about: str) -> None:
        """Show where the console is."""
        self.console.print(f"\nThe console: {escape(address)}", soft_wrap=True, highlight=False)
        self.console.print(f"  [dim]{escape(about)}[/]", soft_wrap=True, highlight=False)

    async def follow(self, name: str, log: Path) -> None:
        """Show a process's log as it grows, until cancelled."""
        position = size_of(log)
        while True:
            lines, position = _complete_lines(log, position)
            for line in lines:
                self.line(name, line)
            await asyncio.sleep(LOG_POLL_SECONDS)

    def _coloured(self, name: str) -> str:
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        return f"[{colour}]{name}[/]"


def _complete_lines(log: Path, position: int) -> tuple[list[str], int]:
    """Return the whole lines after the position, and the position after them; starts over in a new log."""
    if size_of(log) < position:
        position = 0
    if not log.exists():
        return [], 0
    with log.open("rb") as file:
        file.seek(position)
        text = file.read()
    end = text.rfind(b"\n") + 1
    return text[:end].decode(errors="replace").splitlines(), position + end
