"""`muster up`: the whole of Muster on this machine, in the foreground, until Ctrl-C.

Before anything is started the folder is locked, leftovers of a killed run are ended and every port is checked, so a
refusal leaves nothing half-started. Ctrl-C (or SIGTERM) ends everything in order and exits 0; a second one hastens.
A stack that cannot start or keep running exits 1 with the reason.
"""

import asyncio
import shlex
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.local_settings import DEFAULT_FOLDER, FOLDER_VARIABLE
from cli.up_screen import Screen
from cli.up_settings import Ports
from cli.up_stack import LocalStack, muster
from local_stack import stack_file
from local_stack.errors import ChildFailedError, LocalStackError
from local_stack.folder import end_orphans, owned_folder
from local_stack.ports import LOCALHOST, require_free
from local_stack.preloaded import Program

# Sent by Ctrl-C, by whoever runs us, and by a terminal that is closed.
END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Interrupts:
    """What the person at the terminal has asked for."""

    stop: asyncio.Event
    hasten: asyncio.Event

    def ask(self) -> None:
        """The first time asks for an orderly end, the second for a quick one."""
        (self.hasten if self.stop.is_set() else self.stop).set()


def up(  # noqa: PLR0913, PLR0917 - each is an option of the command
    folder: Annotated[
        Path, typer.Option(help="Where data, logs and stack.json are kept.", envvar="MUSTER_FOLDER")
    ] = Path(".local"),
    postgres_port: Annotated[int, typer.Option(help="PostgreSQL's port.")] = 5433,
    kafka_port: Annotated[int, typer.Option(help="Kafka's port.")] = 9092,
    command_port: Annotated[int, typer.Option(help="The command API's port.")] = 8000,
    query_port: Annotated[int, typer.Option(help="The query API's port.")] = 8001,
    relay_port: Annotated[int, typer.Option(help="The port of the relay's health and metrics.")] = 8002,
    projectors_port: Annotated[int, typer.Option(help="The port of the projectors' health and metrics.")] = 8003,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every log as it grows.")] = False,
) -> None:
    """Start PostgreSQL, Kafka, both APIs, relay and projectors on this machine; Ctrl-C stops them."""
    ports = Ports(postgres_port, kafka_port, command_port, query_port, relay_port, projectors_port)
    raise typer.Exit(exit_code(folder, ports, muster(), verbose=verbose))


def exit_code(folder: Path, ports: Ports, program: Program, *, verbose: bool) -> int:
    """Run the stack, `program` being `muster`; say what went wrong and return the exit code."""
    console = Console(highlight=False)
    try:
        return asyncio.run(run(folder.absolute(), ports, console, program, verbose=verbose))
    except LocalStackError as error:
        Screen(console).trouble(str(error))
    except OSError as error:  # a full disk, a folder without permission: the system's own words say it best
        Screen(console).trouble(f"{error.filename or 'The local stack'}: {error.strerror or error}.")
    return 1


async def run(folder: Path, ports: Ports, console: Console, program: Program, *, verbose: bool) -> int:
    """Run the stack, `program` being `muster`, and return the exit code."""
    began = asyncio.get_running_loop().time()
    with owned_folder(folder), _interrupts() as interrupts:
        await asyncio.to_thread(_sweep, folder, console)
        require_free(ports.by_option())
        screen = Screen(console)
        stack = LocalStack(folder, ports, screen, program=program, started_at=datetime.now(UTC))
        stack.plan()
        screen.on_change = stack.write_down
        follow = [asyncio.create_task(screen.follow(child)) for child in stack.children if verbose]
        try:
            return await _until_the_end(stack, screen, interrupts, began)
        finally:
            await stack.stop(interrupts.hasten)
            for task in follow:
                task.cancel()


async def _until_the_end(stack: LocalStack, screen: Screen, interrupts: Interrupts, began: float) -> int:
    """Start the stack, let it run, and return the exit code once it has to end."""
    stop = asyncio.create_task(interrupts.stop.wait())
    try:
        with screen.steps():
            if await _ended_before(stop, stack.start()):
                return 0
        seconds = asyncio.get_running_loop().time() - began
        stack.ready(datetime.now(UTC))
        screen.ready(stack.entries(), seconds, stack.logs, _suggestions(stack))
        failure = asyncio.create_task(stack.supervisor.until_failure())
        await asyncio.wait({stop, failure}, return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            screen.failure(failure.result())
            return 1
        failure.cancel()
    except ChildFailedError as error:
        screen.failure(error)
        return 1
    else:
        return 0
    finally:
        stop.cancel()


async def _ended_before(stop: asyncio.Task[bool], start: Coroutine[Any, Any, None]) -> bool:
    """Run the start, unless the end is asked for first; tell whether it was."""
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
    """Turn signals into requests for the time of the context."""
    interrupts = Interrupts(asyncio.Event(), asyncio.Event())
    loop = asyncio.get_running_loop()
    for number in END_SIGNALS:
        loop.add_signal_handler(number, interrupts.ask)
    try:
        yield interrupts
    finally:
        for number in END_SIGNALS:
            loop.remove_signal_handler(number)


def _sweep(folder: Path, console: Console) -> None:
    """End what a killed run left; an orderly one removed its stack file."""
    if (folder / stack_file.FILE_NAME).exists():
        count = end_orphans(folder)
        stack_file.remove(folder)
        ended = f"; {count} of its processes were still running and have been ended" if count else ""
        console.print(f"The last run on {folder} was killed{ended}. Its data is being recovered.", soft_wrap=True)


def _suggestions(stack: LocalStack) -> list[tuple[str, str]]:
    """Return three commands worth trying, each with what it does."""
    person = '{"email": "ada@example.com", "username": "ada", "password": "correct horse"}'
    command, query = f"http://{LOCALHOST}:{stack.ports.command}", f"http://{LOCALHOST}:{stack.ports.query}"
    demo = "make demo" if Path("Makefile").exists() else shlex.join([*muster().command, "demo"])
    if stack.folder != DEFAULT_FOLDER.absolute():
        demo = f"{FOLDER_VARIABLE}={shlex.quote(str(stack.folder))} {demo}"
    return [
        ("register a user", f"curl -i {command}/users -H 'Content-Type: application/json' -d '{person}'"),
        ("read the users", f"curl -s {query}/users"),
        ("watch users travel through Kafka", demo),
    ]
