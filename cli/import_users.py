"""`muster import FILE`: users by the million through the command API, chunk by chunk, resumable.

Memory stays constant whatever the size of the file: one chunk is held at a time. A line without an id is given one that
depends on the file and the line alone, so that a chunk can be sent again, and a whole file imported again, without
registering anybody twice. What was answered is noted after every chunk; `--resume` goes on there.
"""

from __future__ import annotations

import codecs
import gc
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Self
from uuid import UUID

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from chassis.lifecycle import Backoff, freeze_loaded_objects
from chassis.postgres.database import describe
from cli.output import counted, fail, print_json, say

#: Lines of one request: a second or less of work for the API where passwords come hashed, so progress is seen.
CHUNK_LINES: Final = 2000
#: An answer leaves a few cycles behind that hold 40 KB: too few objects for the collector to look for them by itself.
CHUNKS_BETWEEN_COLLECTIONS: Final = 16
#: Bytes of one request, half of what the API takes.
CHUNK_BYTES: Final = 8 * 1024 * 1024
#: What the API takes of one line; a longer one is rejected here, before it can fill the memory.
LINE_BYTES: Final = 64 * 1024
#: Between two parts of an answer: each batch is answered when it is committed. One whose 500 passwords are to be hashed
#: takes 9 s on one core, some times that beside other imports and commands.
ANSWER_SECONDS: Final = 60.0
CONNECT_SECONDS: Final = 5.0
#: Attempts at one chunk before giving up: with growing pauses about a minute, as long as a restart takes.
ATTEMPTS: Final = 20
PAUSE_FIRST_SECONDS: Final = 0.25
PAUSE_CAP_SECONDS: Final = 5.0
#: Statuses that pass by themselves.
_PASSING: Final = frozenset({409, 429, 500, 502, 503, 504})
_STDIN: Final = "-"


@dataclass(slots=True)
class Progressed:
    """How far an import is; written beside the file after each chunk that was answered."""

    #: Names the file's state: another size or time is another file.
    size: int
    mtime_ms: int
    offset: int = 0
    line: int = 0
    created: int = 0
    unchanged: int = 0
    failed: int = 0


@dataclass(slots=True)
class Chunk:
    """Lines of one request; `lines` has the original of each, by its number in the file."""

    first_line: int
    lines: list[bytes] = field(default_factory=list)
    #: Numbers of lines that are too long to be sent.
    too_long: set[int] = field(default_factory=set)
    bytes_read: int = 0


class _GaveUpError(Exception):
    """The API did not take a chunk; the message says why."""


def _http_url(text: str) -> str:
    """An address that can be asked: any other would be tried again for a minute."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise typer.BadParameter(f"{text!r} is no URL: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise typer.BadParameter(f"{text!r} is no http or https URL, such as http://127.0.0.1:8000")
    return text


def import_users(
    file: Annotated[str, typer.Argument(help="NDJSON, one user a line; - reads standard input.")],
    *,
    url: Annotated[
        str, typer.Option(help="The command API.", envvar="PUBLIC_COMMAND_URL", callback=_http_url)
    ] = "http://127.0.0.1:8000",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the last import of this file stopped.")] = False,
    rejects: Annotated[Path | None, typer.Option(help="Where refused lines go (default: FILE.rejects.ndjson).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON, without a progress bar.")] = False,
) -> None:
    """Import users; exit code 1 if any line was refused or the import did not reach its end."""
    if file == _STDIN and resume:
        fail("Standard input cannot be resumed; give a file.", code=2)
    name = Path("stdin" if file == _STDIN else file)
    with ExitStack() as stack:
        source = sys.stdin.buffer if file == _STDIN else _open(stack, name)
        notes = None if file == _STDIN else name.with_name(name.name + ".import.json")
        progressed = _begin(source, notes, resume=resume)
        rejected = stack.enter_context(
            Rejects.open(rejects or name.with_name(name.name + ".rejects.ndjson"), append=resume)
        )
        client = stack.enter_context(_client(url))
        bar = stack.enter_context(_bar(progressed, quiet=as_json))
        try:
            _run(Import(source, client, progressed, notes, rejected), bar)
        except KeyboardInterrupt:
            complete = False
            print("Interrupted.", file=sys.stderr)  # noqa: T201 - the answer of a command
        except (_GaveUpError, OSError) as error:
            complete = False
            print(_in_words(error), file=sys.stderr)  # noqa: T201 - the answer of a command
        else:
            complete = True
    _report(progressed, rejected, complete=complete, as_json=as_json, resumable=notes is not None)


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return str(error)


def _open(stack: ExitStack, path: Path) -> BinaryIO:
    try:
        return stack.enter_context(path.open("rb"))
    except OSError as error:
        fail(f"Cannot read {path}: {error.strerror}.", code=2)


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS), trust_env=False)


def _begin(source: BinaryIO, notes: Path | None, *, resume: bool) -> Progressed:
    """Where to begin: at the start, or where the notes say."""
    if notes is None:
        return Progressed(size=0, mtime_ms=int(time.time() * 1000))
    status = os.fstat(source.fileno())
    fresh = Progressed(size=status.st_size, mtime_ms=status.st_mtime_ns // 1_000_000)
    if not resume:
        return fresh
    try:
        noted = Progressed(**json.loads(notes.read_text()))
    except FileNotFoundError:
        return fresh
    except (ValueError, TypeError):
        fail(f"{notes} is damaged; remove it and import without --resume: nobody is registered twice.", code=2)
    if (noted.size, noted.mtime_ms) != (fresh.size, fresh.mtime_ms):
        fail(
            "The file has changed since its import stopped; import it without --resume."
            " Lines that are as they were fail as taken or change nothing.",
            code=2,
        )
    source.seek(noted.offset)
    return noted


class Rejects:
    """Refused lines as they were, ready to be corrected and imported, and beside them the reasons.

    Both are readable by their owner alone, as a line has a password or its hash in it, and made when they are needed.
    """

    def __init__(self, path: Path, *, append: bool) -> None:
        """Use `open`."""
        self.path = path
        self.reasons = path.with_name(path.name + ".reasons")
        self._append = append
        self._files: tuple[BinaryIO, BinaryIO] | None = None
        self._stack = ExitStack()

    @classmethod
    def open(cls, path: Path, *, append: bool) -> Self:
        """Prepare to write to this path, after what is there or instead of it."""
        if not path.parent.is_dir():
            fail(f"Cannot write {path}: there is no folder {path.parent}.", code=2)
        if not append:
            try:
                path.unlink(missing_ok=True)
                path.with_name(path.name + ".reasons").unlink(missing_ok=True)
            except OSError as error:
                fail(f"Cannot write {path}: {error.strerror}.", code=2)
        return cls(path, append=append)

    def __enter__(self) -> Self:
        """Hold the files."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close them."""
        self._stack.close()

    def add(self, number: int, line: bytes, problem: dict[str, Any]) -> None:
        """Keep a refused line and why it was."""
        if self._files is None:
            self._files = self._private(self.path), self._private(self.reasons)
        lines, reasons = self._files
        lines.write(line + b"\n")
        reasons.write(json.dumps({"line": number, "problem": problem}, ensure_ascii=False).encode() + b"\n")

    def flush(self) -> None:
        """Hand everything to the system before the notes say that it was dealt with."""
        for file in self._files or ():
            file.flush()

    def _private(self, path: Path) -> BinaryIO:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return self._stack.enter_context(os.fdopen(descriptor, "ab"))


@dataclass(slots=True)
class Import:
    """One import: what it reads, where it sends, and how far it is."""

    source: BinaryIO
    client: httpx.Client
    progressed: Progressed
    notes: Path | None
    rejects: Rejects

    def chunks(self) -> Iterator[Chunk]:
        """The rest of the source, a chunk at a time."""
        while True:
            chunk = _read_chunk(self.source, self.progressed.line + 1)
            if not chunk.bytes_read:
                return
            yield chunk

    def send(self, chunk: Chunk) -> None:
        """Have a chunk imported, note its rejects, and then that it is done.

        Raises:
            _GaveUpError: the API refused it as a whole, or did not answer for as long as is worth waiting.
        """
        body = b"".join(self._outgoing(chunk))
        results = self._answered(body) if body.strip() else []
        failed = {result["line"]: result["problem"] for result in results if result["status"] == "failed"}
        failed.update(dict.fromkeys((n - chunk.first_line + 1 for n in chunk.too_long), _TOO_LONG))
        for offset, problem in sorted(failed.items()):
            self.rejects.add(chunk.first_line + offset - 1, chunk.lines[offset - 1], problem)
        self._note(chunk, results, len(failed))

    def _outgoing(self, chunk: Chunk) -> Iterator[bytes]:
        for number, line in enumerate(chunk.lines, start=chunk.first_line):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)  # noqa: PLW2901 - some editors begin a file with it
            # An empty line in the place of one that is too long keeps the numbers right.
            yield (b"" if number in chunk.too_long else with_id(line, number, self.progressed.mtime_ms)) + b"\n"

    def _answered(self, body: bytes) -> list[dict[str, Any]]:
        backoff = Backoff(first=PAUSE_FIRST_SECONDS, cap=PAUSE_CAP_SECONDS)
        for _ in range(ATTEMPTS):
            try:
                return _post(self.client, body)
            except _UnfinishedError as error:
                reason = str(error)
            # Harmless: every line has an id, so what is there already changes nothing.
            time.sleep(backoff.next())
        raise _GaveUpError(f"Gave up after {ATTEMPTS} attempts: {reason}")

    def _note(self, chunk: Chunk, results: list[dict[str, Any]], failed: int) -> None:
        progressed = self.progressed
        progressed.offset += chunk.bytes_read
        progressed.line += len(chunk.lines)
        progressed.created += sum(result["status"] == "created" for result in results)
        progressed.unchanged += sum(result["status"] == "unchanged" for result in results)
        progressed.failed += failed
        if self.notes:
            self.rejects.flush()
            _write_whole(self.notes, json.dumps(asdict(progressed)))


class _UnfinishedError(Exception):
    """The API did not answer, or not to the end; the message says how."""


_TOO_LONG: Final = {
    "type": "/problems/payload-too-large",
    "title": "The line is too long",
    "status": 413,
    "detail": f"a line may have at most {LINE_BYTES} bytes",
}


def _post(client: httpx.Client, body: bytes) -> list[dict[str, Any]]:
    headers = {"Content-Type": "application/x-ndjson", "Accept": "application/x-ndjson"}
    try:
        with client.stream("POST", "/users/import", content=body, headers=headers) as answer:
            if answer.status_code != 200:
                _refused(answer.status_code, answer.read())
            results = [json.loads(line) for line in answer.iter_lines()]
    except httpx.HTTPError as error:
        raise _UnfinishedError(f"the command API does not answer: {describe(error)}") from error
    if not results or not results[-1].get("complete"):
        raise _UnfinishedError("the answer ended before its summary")
    return results[:-1]


def _refused(status: int, content: bytes) -> None:
    try:
        document = json.loads(content)
        detail = f"{status} {document['title']}: {document['detail']}"
    except (ValueError, KeyError, TypeError):
        detail = f"{status}"
    if status in _PASSING:
        raise _UnfinishedError(detail)
    raise _GaveUpError(f"The command API refuses the import: {detail}")


def _read_chunk(source: BinaryIO, first_line: int) -> Chunk:
    chunk = Chunk(first_line)
    size = 0
    while len(chunk.lines) < CHUNK_LINES and size < CHUNK_BYTES:
        line = source.readline(LINE_BYTES + 2)
        if not line:
            break
        chunk.bytes_read += len(line)
        if not line.endswith(b"\n") and len(line) > LINE_BYTES:
            chunk.too_long.add(first_line + len(chunk.lines))
            chunk.bytes_read += _skip_line(source)
        kept = line.rstrip(b"\r\n")
        size += len(kept)
        chunk.lines.append(kept)
    return chunk


def _skip_line(source: BinaryIO) -> int:
    skipped = 0
    while part := source.readline(LINE_BYTES):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def with_id(line: bytes, number: int, time_ms: int) -> bytes:
    """The line with an id of its own, where it is a JSON object without one; any other line as it is."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return line
    # A byte order mark or UTF-16 is read here, but is refused there: such a line stays as it is.
    if not isinstance(document, dict) or "id" in document or not document or not line.lstrip().startswith(b"{"):
        return line
    rest = line.lstrip()[1:]
    return b'{"id":"%s",' % str(line_id(line, number, time_ms)).encode() + rest


def line_id(line: bytes, number: int, time_ms: int) -> UUID:
    """A UUIDv7 that depends on the file's time, the line's number and its content alone, and sorts by number."""
    digest = int.from_bytes(hashlib.sha256(line).digest()[:4], "big")
    low = (number & (2**42 - 1)) << 32 | digest
    value = (time_ms & (2**48 - 1)) << 80 | 7 << 76 | (low >> 62) << 64 | 2 << 62 | low & (2**62 - 1)
    return UUID(int=value)


def _run(work: Import, bar: Progress) -> None:
    [task] = bar.task_ids
    done = work.progressed
    first_line, started = done.line, time.monotonic()
    freeze_loaded_objects()
    for count, chunk in enumerate(work.chunks(), start=1):
        work.send(chunk)
        rate = (done.line - first_line) / max(time.monotonic() - started, 0.001)
        told = f"{done.line:,} lines, {rate:,.0f}/s, {done.failed:,} refused"
        bar.update(task, completed=done.offset, told=told)
        if not count % CHUNKS_BETWEEN_COLLECTIONS:
            gc.collect()


def _bar(progressed: Progressed, *, quiet: bool) -> Progress:
    told = TextColumn("{task.fields[told]}")
    bar = Progress(
        BarColumn(), DownloadColumn(), told, TimeRemainingColumn(), console=Console(stderr=True), disable=quiet
    )
    bar.add_task("import", total=progressed.size or None, completed=progressed.offset, told="")
    return bar


def _report(progressed: Progressed, rejects: Rejects, *, complete: bool, as_json: bool, resumable: bool) -> None:
    counts = {name: getattr(progressed, name) for name in ("created", "unchanged", "failed")}
    if as_json:
        print_json(
            {
                "complete": complete,
                "lines": progressed.line,
                **counts,
                "rejects": str(rejects.path) if progressed.failed else None,
            }
        )
    else:
        say(
            f"{counted(progressed.line, 'line')}: {progressed.created:,} created,"
            f" {progressed.unchanged:,} there already, {progressed.failed:,} refused."
        )
        if progressed.failed:
            say(f"Refused lines: {rejects.path}; why: {rejects.reasons}")
        if not complete and resumable:
            say("Go on with --resume.")
    if not complete or progressed.failed:
        raise typer.Exit(1)


def _write_whole(path: Path, text: str) -> None:
    """Replace a file at once, so that a kill never leaves half of it."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    beside.replace(path)
