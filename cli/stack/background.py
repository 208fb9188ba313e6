"""A stack in the background: started with --detach, shown with --status, ended with --stop.

It is the same `muster up` in a session of its own; its output goes to `logs/up.log`. The folder's lock tells who owns
it, so --stop and --status never mean another process that was given the pid of a killed one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from cli.stack.contents import TIMINGS_FILE, require_own
from cli.stack.foreground import CHOOSE_ANOTHER, UpOptions, explaining_errors, mark_as_ours
from cli.stack.screen import Screen
from cli.stack.settings import ALL_PARTS, CONSOLE
from cli.stack.suggestions import suggestions, way_in
from cli.terminal.output import print_json
from local_stack import stack_file
from local_stack.folder import RESET, Owner, has_lock_open, owned_folder, owner
from local_stack.logs import open_log, size_of
from local_stack.ports import listens
from local_stack.processes.http_process import answers_ready
from local_stack.processes.preloaded import Program
from local_stack.servers import ServerOptions
from local_stack.stack_file import ProcessEntry, Stack

#: Between two looks at a stack that starts or ends.
POLL_SECONDS: Final = 0.1
#: The first end on a machine also writes Kafka's start-up cache (90 s at most); the other parts take up to 30 s each.
STACK_STOP_SECONDS: Final = 240.0
#: Grace for an owner that has locked the folder but not written its pid yet, which takes microseconds.
OWNER_SECONDS: Final = 1.0
#: For one process of the stack to answer whether it is ready.
READY_ANSWER_SECONDS: Final = 3.0

LOG: Final = "up.log"


def detach(options: UpOptions, program: Program) -> int:
    """Start a stack in the background; return once it is ready or has failed. Ctrl-C meanwhile ends it."""
    console = Console(highlight=False)
    return explaining_errors(console, lambda: _detach(options, program, console))


def _detach(options: UpOptions, program: Program, console: Console) -> int:
    require_own(options.folder, CHOOSE_ANOTHER)
    with owned_folder(options.folder):
        # Checked here already, so that a refusal is on this terminal and not in the log.
        mark_as_ours(options.folder, console, unmarked=require_own(options.folder, CHOOSE_ANOTHER))
    log = options.folder / "logs" / LOG
    with open_log(log) as output:
        began = size_of(log)
        process = subprocess.Popen(  # noqa: S603 - our own program
            [*program.command, "up", *_arguments(options)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        stack = _until_ready(options.folder, process)
    except KeyboardInterrupt:
        return _end(process, log, console)
    if stack is None:
        with log.open("rb") as file:
            file.seek(began)
            console.print(file.read().decode(errors="replace").strip(), markup=False, soft_wrap=True)
        return process.returncode or 1
    _show(console, stack, dict.fromkeys([entry.name for entry in stack.processes], True))
    Screen(console).suggest(suggestions(options.folder, stack.settings, options.only))
    if CONSOLE in options.only:
        Screen(console).open_console(*way_in(options.folder, stack.settings))
    console.print(
        f"\nIt runs in the background: `muster up --stop` ends it, `muster logs` shows its output ({log}).",
        soft_wrap=True,
    )
    return 0


def _end(process: subprocess.Popen[bytes], log: Path, console: Console, within: float = STACK_STOP_SECONDS) -> int:
    """End a start that was interrupted; each further interrupt makes it faster."""
    deadline = time.monotonic() + within
    while True:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except KeyboardInterrupt:
            continue
        except subprocess.TimeoutExpired:
            console.print(_still_there(process.pid, log, within), soft_wrap=True)
        return 1


def _still_there(pid: int, log: Path, seconds: float) -> str:
    return f"Process {pid} has not ended within {seconds:.0f} s: see {log}, then end it with `kill -9 {pid}`."


def _until_ready(folder: Path, process: subprocess.Popen[bytes]) -> Stack | None:
    """Return the stack once it is ready; None where the process ends before."""
    while process.poll() is None:
        stack = stack_file.read(folder)
        if stack and stack.ready_at and (folder / TIMINGS_FILE).exists():
            return stack
        time.sleep(POLL_SECONDS)
    return None


def _arguments(options: UpOptions) -> list[str]:
    ports = [part for option, port in options.ports.by_option().items() for part in (option, str(port))]
    only = [] if options.only == ALL_PARTS else ["--only", ",".join(sorted(options.only))]
    verbose = ["--verbose"] if options.verbose else []
    return ["--folder", str(options.folder), *ports, *only, *_server_arguments(options.servers), *verbose]


def _server_arguments(asked: ServerOptions) -> list[str]:
    brokers = [] if asked.brokers is None else ["--brokers", str(asked.brokers)]
    standby = [] if asked.standby is None else ["--standby" if asked.standby else "--no-standby"]
    waits = [] if asked.synchronous is None else ["--synchronous" if asked.synchronous else "--no-synchronous"]
    return [*brokers, *standby, *waits]


def stop(folder: Path) -> int:
    """End the stack that runs on the folder as Ctrl-C would, and return once it has ended."""
    console = Console(highlight=False)
    current = _written_owner(folder)
    if current is None or current.purpose == RESET:
        resets = f"; `muster reset` (process {current.pid}) is running there" if current else ""
        console.print(f"No stack runs on {folder}{resets}.", soft_wrap=True)
        return 0
    pid = current.pid
    if not has_lock_open(pid, folder):
        console.print(
            f"A stack runs on {folder}, but its process ({pid or 'unknown'}) cannot be reached from here: "
            "end it where it was started.",
            soft_wrap=True,
        )
        return 1
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has ended just now
    except PermissionError:
        console.print(f"The stack on {folder} (process {pid}) is another user's: it was not ended.", soft_wrap=True)
        return 1
    deadline = time.monotonic() + STACK_STOP_SECONDS
    while (current := owner(folder)) and current.pid == pid:
        if time.monotonic() > deadline:
            console.print(_still_there(pid, folder / "logs" / LOG, STACK_STOP_SECONDS), soft_wrap=True)
            return 1
        time.sleep(POLL_SECONDS)
    console.print(f"The stack on {folder} (process {pid}) has ended; its data stays.", soft_wrap=True)
    return 0


def _written_owner(folder: Path) -> Owner | None:
    """Return who owns the folder; an owner that has only just locked it gets time to write its pid."""
    deadline = time.monotonic() + OWNER_SECONDS
    while (current := owner(folder)) and not has_lock_open(current.pid, folder) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return current


def show_status(folder: Path, *, as_json: bool) -> int:
    """Show what runs on the folder and whether it is ready; return 0 only if all of it is."""
    stack = stack_file.read(folder)
    ready = asyncio.run(_probe(stack.processes)) if stack else {}
    if as_json:
        print_json(_report(folder, stack, ready))
    elif stack is None:
        starts = " yet; one is starting" if owner(folder) else ""
        Console(highlight=False).print(f"No stack runs on {folder}{starts}.", soft_wrap=True)
    else:
        _show(Console(highlight=False), stack, ready)
    return 0 if stack and stack.ready_at and all(ready.values()) else 1


async def _probe(entries: list[ProcessEntry]) -> dict[str, bool]:
    answers = await asyncio.gather(*(_is_ready(entry) for entry in entries))
    return {entry.name: answer for entry, answer in zip(entries, answers, strict=True)}


async def _is_ready(entry: ProcessEntry) -> bool:
    if entry.port is None:
        return True
    try:
        async with asyncio.timeout(READY_ANSWER_SECONDS):
            return await (answers_ready(entry.port) if entry.url else listens(entry.port))
    except TimeoutError:
        return False


def _report(folder: Path, stack: Stack | None, ready: dict[str, bool]) -> dict[str, Any]:
    """Return everything for --json but the settings, which hold passwords."""
    if stack is None:
        current = owner(folder)
        return {
            "folder": str(folder),
            "running": False,
            "supervisor_pid": current.pid if current else None,
            "processes": [],
        }
    shown = ("name", "pid", "port", "url", "log")
    entries = [
        {name: asdict(entry)[name] for name in shown} | {"ready": ready[entry.name]} for entry in stack.processes
    ]
    return {
        "folder": str(folder),
        "running": True,
        "supervisor_pid": stack.supervisor_pid,
        "started_at": stack.started_at,
        "ready_at": stack.ready_at,
        "processes": entries,
    }


def _show(console: Console, stack: Stack, ready: dict[str, bool]) -> None:
    state = f"ready since {stack.ready_at}" if stack.ready_at else "starting"
    table = Table("", "", "where", "process", title=f"Muster on {stack.folder}, {state}", title_style="bold")
    for entry in stack.processes:
        sign = "[green]ready[/]" if ready[entry.name] else "[red]not ready[/]"
        table.add_row(entry.name, sign, entry.where, str(entry.pid))
    console.print(table)
