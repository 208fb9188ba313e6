"""`muster import FILE`: users by the million through the command API, chunk by chunk, resumable.

Memory stays constant whatever the size of the file, since one chunk is held at a time. A line without an id is given
one that depends only on the file and the line, so that a chunk, or a whole file, can be sent again without registering
anybody twice. Progress is noted after every chunk; `--resume` continues there.
"""

from __future__ import annotations

import gc
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from chassis.lifecycle import freeze_loaded_objects
from chassis.settings import load
from cli.access.address import CommandApiAddress, http_url
from cli.access.bearer import NoTokenError
from cli.importing.progress import ImportProgress, starting_point
from cli.importing.rejects import Rejects
from cli.importing.sending import GaveUpError, Import, open_client
from cli.terminal.output import counted, fail, print_json, say

#: An answer leaves a few cycles behind that hold 40 KB: too few objects for the collector to start by itself.
CHUNKS_BETWEEN_COLLECTIONS: Final = 16
_STDIN: Final = "-"


def _http_url(text: str | None) -> str | None:
    try:
        return text and http_url(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} {error}") from error


def import_file(
    file: Annotated[str, typer.Argument(help="NDJSON, one user a line; - reads standard input.")],
    *,
    url: Annotated[
        str | None, typer.Option(help="The command API; goes before PUBLIC_COMMAND_URL.", callback=_http_url)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue where the last import of this file stopped.")
    ] = False,
    rejects: Annotated[Path | None, typer.Option(help="Where refused lines go (default: FILE.rejects.ndjson).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON, without a progress bar.")] = False,
) -> None:
    """Import users; exit code 1 if any line was refused or the import did not reach its end."""
    if file == _STDIN and resume:
        fail("Standard input cannot be resumed; give a file.", code=2)
    address = url or load(CommandApiAddress).public_command_url
    name = Path("stdin" if file == _STDIN else file)
    with ExitStack() as stack:
        client = stack.enter_context(_client(address))
        source = sys.stdin.buffer if file == _STDIN else _open(stack, name)
        progress_file = None if file == _STDIN else name.with_name(name.name + ".import.json")
        progress = starting_point(source, progress_file, resume=resume)
        refused = stack.enter_context(Rejects(rejects or name.with_name(name.name + ".rejects.ndjson"), append=resume))
        bar = stack.enter_context(_bar(progress, quiet=as_json))
        complete = _send_all(Import(source, client, progress, progress_file, refused), bar)
    _report(progress, refused, complete=complete, as_json=as_json, resumable=progress_file is not None)


def _client(address: str) -> httpx.Client:
    """Return a client that has a token to send, before anything is written."""
    try:
        return open_client(address)
    except NoTokenError as error:
        fail(str(error), code=2)


def _open(stack: ExitStack, path: Path) -> BinaryIO:
    try:
        return stack.enter_context(path.open("rb"))
    except OSError as error:
        fail(f"Cannot read {path}: {error.strerror}.", code=2)


def _send_all(work: Import, bar: Progress) -> bool:
    """Send every chunk; return False, having printed why, where it stops before the end."""
    try:
        _send_chunks(work, bar)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)  # noqa: T201 - the answer of a command
        return False
    except (GaveUpError, NoTokenError, OSError) as error:
        print(_explain(error), file=sys.stderr)  # noqa: T201 - the answer of a command
        return False
    return True


def _send_chunks(work: Import, bar: Progress) -> None:
    [task] = bar.task_ids
    progress = work.progress
    first_line, started = progress.line, time.monotonic()
    freeze_loaded_objects()
    for count, chunk in enumerate(work.chunks(), start=1):
        work.send(chunk)
        rate = (progress.line - first_line) / max(time.monotonic() - started, 0.001)
        counts = f"{progress.line:,} lines, {rate:,.0f}/s, {progress.failed:,} refused"
        bar.update(task, completed=progress.offset, counts=counts)
        if not count % CHUNKS_BETWEEN_COLLECTIONS:
            gc.collect()


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return str(error)


def _bar(progress: ImportProgress, *, quiet: bool) -> Progress:
    counts = TextColumn("{task.fields[counts]}")
    bar = Progress(
        BarColumn(), DownloadColumn(), counts, TimeRemainingColumn(), console=Console(stderr=True), disable=quiet
    )
    bar.add_task("import", total=progress.size or None, completed=progress.offset, counts="")
    return bar


def _report(progress: ImportProgress, rejects: Rejects, *, complete: bool, as_json: bool, resumable: bool) -> None:
    if as_json:
        print_json(
            {
                "complete": complete,
                "lines": progress.line,
                **{name: getattr(progress, name) for name in ("created", "unchanged", "failed")},
                "rejects": str(rejects.path) if progress.failed else None,
            }
        )
    else:
        say(
            f"{counted(progress.line, 'line')}: {progress.created:,} created,"
            f" {progress.unchanged:,} there already, {progress.failed:,} refused."
        )
        if progress.failed:
            say(f"Refused lines: {rejects.path}; why: {rejects.reasons}")
        if not complete and resumable:
            say("Go on with --resume.")
    if not complete or progress.failed:
        raise typer.Exit(1)
