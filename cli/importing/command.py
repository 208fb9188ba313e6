"""`muster import FILE`: users by the million through the command API, chunk by chunk, resumable.

Memory stays constant whatever the size of the file, since one chunk is held at a time. A line without an id is given
one that depends only on the file and the line, so that a chunk, or a whole file, can be sent again without registering
anybody twice. Progress is noted after every chunk; `--resume` continues there.
"""

from __future__ import annotations

import gc
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import httpx
import typer
from rich.console import Console

from chassis.lifecycle import freeze_loaded_objects
from chassis.settings import http_url, load
from cli.access.address import CommandApiAddress
from cli.access.bearer import NoTokenError
from cli.importing.display import Display
from cli.importing.progress import starting_point
from cli.importing.refusals import described
from cli.importing.rejects import Rejects
from cli.importing.sending import GaveUpError, Import, open_client
from cli.terminal.output import counted, fail, print_json, say, say_aside

if TYPE_CHECKING:
    from cli.importing.foreseen import Foreseen

#: An answer leaves a few cycles behind that hold 40 KB: too few objects for the collector to start by itself.
CHUNKS_BETWEEN_COLLECTIONS: Final = 16
_STDIN: Final = "-"


def _http_url(text: str | None) -> str | None:
    try:
        return text and http_url(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} {error}") from error


def import_file(  # noqa: PLR0913 - each is an option of the command
    file: Annotated[str, typer.Argument(help="NDJSON, one user a line; - reads standard input.")],
    *,
    url: Annotated[
        str | None, typer.Option(help="The command API; goes before PUBLIC_COMMAND_URL.", callback=_http_url)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue where the last import of this file stopped.")
    ] = False,
    rejects: Annotated[Path | None, typer.Option(help="Where refused lines go (default: FILE.rejects.ndjson).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON, and show nothing on the way.")] = False,
) -> None:
    """Import users; exit code 1 if any line was refused or the import did not reach its end."""
    if file == _STDIN and resume:
        fail("Standard input cannot be resumed; give a file.", code=2)
    if dry_run and resume:
        fail("A dry run begins at the start of the file; leave --resume out.", code=2)
    address = url or load(CommandApiAddress).public_command_url
    name = Path("stdin" if file == _STDIN else file)
    with ExitStack() as stack:
        client = stack.enter_context(_client(address))
        source = sys.stdin.buffer if file == _STDIN else _open(stack, name)
        progress_file = None if file == _STDIN else name.with_name(name.name + ".import.json")
        work = Import(source, client, starting_point(source, progress_file, resume=resume))
        if dry_run:
            work.foreseen = stack.enter_context(_foreseen())
        else:
            work.progress_file, rejects = progress_file, rejects or name.with_name(name.name + ".rejects.ndjson")
        if rejects:
            work.rejects = stack.enter_context(Rejects(rejects, append=resume))
        display = stack.enter_context(Display(work.progress, Console(stderr=True), quiet=as_json))
        complete = _send_all(work, display)
    _report(work, complete=complete, as_json=as_json)


def _foreseen() -> Foreseen:
    from cli.importing.foreseen import Foreseen  # noqa: PLC0415 - in a dry run only: it needs the web framework

    return Foreseen()


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


def _send_all(work: Import, display: Display) -> bool:
    """Send every chunk; return False, having printed why, where it stops before the end."""
    try:
        _send_chunks(work, display)
    except KeyboardInterrupt:
        say_aside("Interrupted.")
        return False
    except (GaveUpError, NoTokenError, OSError) as error:
        say_aside(_explain(error))
        return False
    return True


def _send_chunks(work: Import, display: Display) -> None:
    freeze_loaded_objects()
    for count, chunk in enumerate(work.chunks(), start=1):
        work.send(chunk)
        display.show(work.progress)
        if not count % CHUNKS_BETWEEN_COLLECTIONS:
            gc.collect()


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return str(error)


def _report(work: Import, *, complete: bool, as_json: bool) -> None:
    progress, rejects = work.progress, work.rejects
    if as_json:
        print_json(
            {
                "complete": complete,
                **({"dry_run": True} if work.foreseen else {}),
                "lines": progress.line,
                **{name: getattr(progress, name) for name in ("created", "unchanged", "failed", "refused")},
                "rejects": str(rejects.path) if rejects and progress.failed else None,
            }
        )
    else:
        say(
            f"{counted(progress.line, 'line')}: {progress.created:,} created,"
            f" {progress.unchanged:,} there already, {progress.failed:,} refused."
        )
        _say_more(work, complete=complete)
    if not complete or progress.failed:
        raise typer.Exit(1)


def _say_more(work: Import, *, complete: bool) -> None:
    progress, rejects = work.progress, work.rejects
    if progress.refused:
        say("Refused, by kind:")
    for line in described(progress.refused):
        say(line)
    if rejects and progress.failed:
        say(f"Refused lines: {rejects.path}; why: {rejects.reasons}")
    if work.foreseen:
        say("It was a dry run: nothing was changed.")
    elif not complete and work.progress_file:
        say("Go on with --resume.")
