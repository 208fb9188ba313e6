"""Notes how far an import has got beside its file, after every chunk, so that `--resume` can continue there."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from cli.importing.chunks import Chunk
from cli.importing.refusals import Kinds
from cli.terminal.output import fail


@dataclass(slots=True)
class ImportProgress:
    """Position and counts of an import; the content of its progress file."""

    #: These two identify the file's content: another size or time means another file.
    size: int
    mtime_ms: int
    offset: int = 0
    line: int = 0
    created: int = 0
    unchanged: int = 0
    failed: int = 0
    refused: Kinds = field(default_factory=dict)

    def advance(self, chunk: Chunk, results: list[dict[str, Any]], failed: int) -> None:
        """Count a chunk that was answered."""
        self.offset += chunk.bytes_read
        self.line += len(chunk.lines)
        self.created += sum(result["status"] == "created" for result in results)
        self.unchanged += sum(result["status"] == "unchanged" for result in results)
        self.failed += failed

    def write(self, path: Path) -> None:
        """Replace the progress file atomically, so that a kill never leaves half of it."""
        staging = path.with_name(path.name + ".new")
        staging.write_text(json.dumps(asdict(self)))
        staging.replace(path)


def starting_point(source: BinaryIO, path: Path | None, *, resume: bool) -> ImportProgress:
    """Return where to begin: at the start, or where the progress file says; the source is moved there."""
    if path is None:
        return ImportProgress(size=0, mtime_ms=int(time.time() * 1000))
    status = os.fstat(source.fileno())
    fresh = ImportProgress(size=status.st_size, mtime_ms=status.st_mtime_ns // 1_000_000)
    if not resume:
        return fresh
    try:
        noted = ImportProgress(**json.loads(path.read_text()))
    except FileNotFoundError:
        return fresh
    except (ValueError, TypeError):
        fail(f"{path} is damaged; remove it and import without --resume: nobody is registered twice.", code=2)
    if (noted.size, noted.mtime_ms) != (fresh.size, fresh.mtime_ms):
        fail(
            "The file has changed since its import stopped; import it without --resume."
            " Unchanged lines then register nobody twice: they are refused as taken, or change nothing.",
            code=2,
        )
    source.seek(noted.offset)
    return noted
