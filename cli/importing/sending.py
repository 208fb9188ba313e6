"""One import's way to the command API: chunk after chunk, each sent until it is answered as a whole."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import httpx

from chassis.lifecycle import Backoff
from chassis.postgres.database import describe
from cli.access.bearer import REMEDY, bearer_for
from cli.access.patience import ATTEMPTS, LONGEST_PAUSE_SECONDS, PAUSE_CAP_SECONDS, PAUSE_FIRST_SECONDS, retry_after
from cli.importing.chunks import KEPT_BYTES, LONGEST_LINE_BYTES, Chunk, read_chunks
from cli.importing.progress import ImportProgress
from cli.importing.refusals import count_refusal
from cli.importing.rejects import Rejects

if TYPE_CHECKING:
    from cli.importing.foreseen import Foreseen

#: Seconds between two parts of an answer: each batch is answered when it is committed. One whose 500 passwords are to
#: be hashed takes 9 s on one core, several times that beside other imports and commands.
BATCH_SECONDS: Final = 60.0
CONNECT_SECONDS: Final = 5.0
#: Statuses that pass by themselves.
_TRANSIENT: Final = frozenset({408, 409, 429, 500, 502, 503, 504})


class GaveUpError(Exception):
    """The API did not take a chunk; the message says why."""


class _UnfinishedError(Exception):
    """The API did not answer, or not to the end; the message says how."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        """`after` so many seconds the API wants to be asked again."""
        super().__init__(message)
        self.after = after


def open_client(url: str) -> httpx.Client:
    """Return a client of the command API at this address, which sends a token with each request.

    Raises:
        NoTokenError: the token cannot be had; a request may find so later.
    """
    timeout = httpx.Timeout(BATCH_SECONDS, connect=CONNECT_SECONDS)
    return httpx.Client(base_url=url, timeout=timeout, trust_env=False, auth=bearer_for(url))


@dataclass(slots=True)
class Import:
    """One import: its source, where it is sent, and how far it has got."""

    source: BinaryIO
    client: httpx.Client
    progress: ImportProgress
    #: The files that are written on the way; a dry run writes nothing that it is not told to.
    progress_file: Path | None = None
    rejects: Rejects | None = None
    #: Those who would have been registered so far, of a dry run.
    foreseen: Foreseen | None = None
    #: Waits so many seconds.
    pause: Callable[[float], None] = time.sleep

    def chunks(self) -> Iterator[Chunk]:
        """Return the rest of the source, a chunk at a time."""
        return read_chunks(self.source, self.progress.line + 1)

    def send(self, chunk: Chunk) -> None:
        """Have a chunk imported, keep its rejects, then note that it is done.

        Raises:
            GaveUpError: the API refused it as a whole, did not answer in ATTEMPTS attempts, or wants to be left alone
                for more than LONGEST_PAUSE_SECONDS.
        """
        lines = chunk.outgoing(self.progress.mtime_ms)
        results = self._foresee(lines) if self.foreseen else self._post_patiently(lines)
        failed = {result["line"]: result["problem"] for result in results if result["status"] == "failed"}
        long = [number - chunk.first_line + 1 for number in chunk.too_long]
        failed.update({offset: _too_long(len(chunk.lines[offset - 1])) for offset in long})
        for offset, problem in sorted(failed.items()):
            count_refusal(self.progress.refused, chunk.first_line + offset - 1, problem)
            if self.rejects:
                self.rejects.add(chunk.first_line + offset - 1, chunk.lines[offset - 1], problem)
        self.progress.advance(chunk, results, len(failed))
        if self.progress_file:
            if self.rejects:
                self.rejects.flush()
            self.progress.write(self.progress_file)

    def _foresee(self, lines: list[bytes]) -> list[dict[str, Any]]:
        """The outcomes that lines would have, those of earlier chunks taken into account."""
        assert self.foreseen, "a dry run"
        results = self._post_patiently(lines)
        corrected: dict[int, dict[str, Any]] = {}
        while found := self.foreseen.corrections(lines, results):
            # A line that is not registered keeps no other of its chunk from being so: ask again without it.
            corrected.update(found)
            lines = [b"" if number in corrected else line for number, line in enumerate(lines, start=1)]
            results = self._post_patiently(lines)
        self.foreseen.add(lines, results)
        return [*results, *corrected.values()]

    def _post_patiently(self, lines: list[bytes]) -> list[dict[str, Any]]:
        if not any(line.strip() for line in lines):
            return []
        body = b"".join(line + b"\n" for line in lines)
        path = "/users/import?dry_run=true" if self.foreseen else "/users/import"
        backoff = Backoff(first=PAUSE_FIRST_SECONDS, cap=PAUSE_CAP_SECONDS)
        for _ in range(ATTEMPTS):
            try:
                return _post(self.client, path, body)
            except _UnfinishedError as error:
                reason, after = str(error), error.after
            if after > LONGEST_PAUSE_SECONDS:
                raise GaveUpError(f"Gave up: {reason}; it wants to be asked again in {after:g} s")
            # Sending it again is harmless: every line has an id, so users that exist already stay as they are.
            self.pause(max(after, backoff.next()))
        raise GaveUpError(f"Gave up after {ATTEMPTS} attempts: {reason}")


def _too_long(size: int) -> dict[str, Any]:
    cut = f"; of this one the first {KEPT_BYTES} are kept here" if size == KEPT_BYTES else f"; this one has {size}"
    return {
        "type": "/problems/payload-too-large",
        "title": "The line is too long",
        "status": 413,
        "detail": f"a line may have at most {LONGEST_LINE_BYTES} bytes{cut}",
    }


def _post(client: httpx.Client, path: str, body: bytes) -> list[dict[str, Any]]:
    headers = {"Content-Type": "application/x-ndjson", "Accept": "application/x-ndjson"}
    try:
        with client.stream("POST", path, content=body, headers=headers) as answer:
            if answer.status_code != 200:
                _raise_refusal(answer.status_code, answer.read(), retry_after(answer.headers))
            # Not iter_lines, which would also end a line at characters within what a result quotes.
            results = [json.loads(line) for line in answer.read().splitlines()]
    except httpx.HTTPError as error:
        raise _UnfinishedError(f"the command API does not answer: {describe(error)}") from error
    if not results or not results[-1].get("complete"):
        raise _UnfinishedError("the answer ended before its summary")
    return results[:-1]


def _raise_refusal(status: int, content: bytes, after: float) -> None:
    try:
        document = json.loads(content)
        detail = f"{status} {document['title']}: {document['detail']}"
    except (ValueError, KeyError, TypeError):
        detail = f"{status}"
    if status in _TRANSIENT:
        raise _UnfinishedError(detail, after)
    remedy = f". {REMEDY}" if status in {401, 403} else ""
    raise GaveUpError(f"The command API refuses the import: {detail}{remedy}")
