"""Runs a stack in the foreground: checks the machine, starts everything, watches it, ends it.

Before anything is started, the folder is locked, processes that a killed run left are ended, and clock, disk and every
port are checked; so a refusal leaves nothing half-started. Ctrl-C (or SIGTERM) ends everything in order and exits 0; a
second one makes it faster. A stack that cannot start, or cannot go on, exits 1 with the reason.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil
from rich.console import Console

from cli.stack.conditions import remedy, require_clock, require_space
from cli.stack.contents import TIMINGS_FILE, mark, require_own
from cli.stack.local_stack import LocalStack
from cli.stack.screen import Screen
from cli.stack.settings import ALL_PARTS, CONSOLE, Ports
from cli.stack.suggestions import suggestions, way_in
from local_stack import stack_file
from local_stack.errors import ChildFailedError, LocalStackError
from local_stack.folder import Ownership, end_orphans, owned_folder
from local_stack.ports import require_free
from local_stack.private_file import write_private
from local_stack.processes.preloaded import Program
from local_stack.servers import AS_BEFORE, ServerOptions, ServerSet, chosen_servers

#: Ctrl-C sends the first, whoever runs us the second, and a closed terminal the third.
END_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: The field of /proc/PID/stat that tells when the process started, in ticks since boot; counted from after its name.
STARTED_FIELD: Final = 19

#: What to do where the folder is not a stack's.
CHOOSE_ANOTHER: Final = "Choose another folder with --folder, or move that away."


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What to run, and where, as the person at the terminal asked for."""

    folder: Path
    ports: Ports
    only: frozenset[str] = ALL_PARTS
    verbose: bool = False
    servers: ServerOptions = AS_BEFORE

    def ports_by_option(self, chosen: ServerSet) -> dict[str, int]:
        """Return each port that these parts and servers need, by the option that moves it.

        Raises:
            LocalStackError: a number is not a port.
        """
        ports = self.ports.by_option() | chosen.more_ports(kafka=self.ports.kafka, postgres=self.ports.postgres)
        return {option: port for option, port in ports.items() if _part_of(option.partition(" ")[0]) in self.only}


@dataclass(frozen=True, slots=True)
class Interrupts:
    """Whether the person at the terminal has asked for the end, and for a quick one."""

    stop: asyncio.Event
    hasten: asyncio.Event

    def ask(self) -> None:
        """Ask for an orderly end, and the second time for a quick one."""
        (self.hasten if self.stop.is_set() else self.stop).set()


def run_stack(options: UpOptions, program: Program) -> int:
    """Run the stack, `program` being `muster`; print what went wrong and return the exit code."""
    console = Console(highlight=False)
    return explaining_errors(console, lambda: asyncio.run(_run(options, console, program, process_age())))


def explaining_errors(console: Console, work: Callable[[], int]) -> int:
    """Return the exit code of `work`; where the machine stops it, print why and return 1."""
    try:
        return work()
    except LocalStackError as error:
        Screen(console).trouble(str(error))
    except OSError as error:  # a full disk, a folder without permission: the system's message says it best
        Screen(console).trouble(f"{error.filename or 'The local stack'}: {error.strerror or error}.")
    return 1


def process_age() -> float:
    """Return the age of this process in seconds, nearly all of which its imports took."""
    try:
        up = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return max(0.0, up - int(fields[STARTED_FIELD]) / os.sysconf("SC_CLK_TCK"))
    except FileNotFoundError:  # not Linux; there psutil knows it to the microsecond, on Linux to the second
        return max(0.0, time.time() - psutil.Process().create_time())


async def _run(options: UpOptions, console: Console, program: Program, age: float) -> int:
    screen = Screen(console, age)
    require_own(options.folder, CHOOSE_ANOTHER)  # before a lock file is made in a folder that is not ours
    with owned_folder(options.folder) as ownership, _interrupts() as interrupts:
        unmarked = require_own(options.folder, CHOOSE_ANOTHER)
        await asyncio.to_thread(_sweep, options.folder, ownership, console)
        now = datetime.now(UTC)
        require_clock(options.folder, now)
        chosen = chosen_servers(options.folder, options.servers)
        require_space(options.folder, standby=chosen.standby)
        require_free(options.ports_by_option(chosen))
        mark_as_ours(options.folder, console, unmarked=unmarked)
        stack = LocalStack(
            options.folder, options.ports, screen, program=program, started_at=now, only=options.only, chosen=chosen
        )
        stack.plan()
        screen.on_change = stack.write_down
        follow = [
            asyncio.create_task(screen.follow(child.name, child.log)) for child in stack.children if options.verbose
        ]
        try:
            return await _until_the_end(stack, screen, interrupts)
        finally:
            await stack.stop(interrupts.hasten)
            for task in follow:
                task.cancel()


async def _until_the_end(stack: LocalStack, screen: Screen, interrupts: Interrupts) -> int:
    """Start the stack and return the exit code once it has to end."""
    stop = asyncio.create_task(interrupts.stop.wait())
    try:
        with screen.steps():
            if await _ended_before(stop, stack.start()):
                return 0
        _announce(stack, screen)
        failure = asyncio.create_task(stack.supervisor.until_failure())
        await asyncio.wait({stop, failure}, return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            screen.failure(failure.result(), remedy(failure.result(), stack.folder))
            return 1
        failure.cancel()
    except ChildFailedError as error:
        screen.failure(error, remedy(error, stack.folder))
        return 1
    else:
        return 0
    finally:
        stop.cancel()


def _announce(stack: LocalStack, screen: Screen) -> None:
    stack.ready(datetime.now(UTC))
    timings = {"ready_seconds": round(screen.age, 3), "steps": screen.timings()}
    write_private(stack.folder / TIMINGS_FILE, json.dumps(timings, indent=2) + "\n")
    screen.ready(stack.entries(), stack.logs)
    screen.suggest(suggestions(stack.folder, stack.settings, stack.only))
    if CONSOLE in stack.only:
        screen.open_console(*way_in(stack.folder, stack.settings))
    screen.console.print("\nCtrl-C stops everything; the data stays.")


async def _ended_before(stop: asyncio.Task[bool], start: Coroutine[Any, Any, None]) -> bool:
    """Run the start. If the person asks for the end first, cancel it and return True."""
    starting = asyncio.create_task(start)
    await asyncio.wait({stop, starting}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        await starting
        return False
    starting.cancel()
    with suppress(asyncio.CancelledError):
        await starting
    return True


@contextmanager
def _interrupts() -> Iterator[Interrupts]:
    """Take signals to end as requests while the context lasts."""
    interrupts = Interrupts(asyncio.Event(), asyncio.Event())
    loop = asyncio.get_running_loop()
    for number in END_SIGNALS:
        loop.add_signal_handler(number, interrupts.ask)
    try:
        yield interrupts
    finally:
        for number in END_SIGNALS:
            loop.remove_signal_handler(number)


def mark_as_ours(folder: Path, console: Console, *, unmarked: bool) -> None:
    """Mark the folder as a stack's; print a line where it holds the data of a version that made no marks."""
    mark(folder)
    if unmarked:
        console.print(f"{folder} holds the stack of an earlier version, which is taken over.", soft_wrap=True)


def _sweep(folder: Path, ownership: Ownership, console: Console) -> None:
    """End what a killed run left; an orderly run leaves no stack file and an empty lock file."""
    described = (folder / stack_file.FILE_NAME).exists()
    count = end_orphans(folder) if described or ownership.unswept else 0
    stack_file.remove(folder)
    ownership.unswept = False
    if described or count:
        ended = f"; {count} of its processes were still running and have been ended" if count else ""
        console.print(f"The last run on {folder} was killed{ended}. Its data is being recovered.", soft_wrap=True)


def _part_of(option: str) -> str:
    part = option.removeprefix("--").removesuffix("-port").removesuffix("-ops")
    return {"command": "command-api", "query": "query-api", "events": "event-api"}.get(part, part)
