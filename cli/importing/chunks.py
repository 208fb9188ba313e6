"""An import's source, cut into chunks of one request each, and the ids that make sending a chunk again harmless."""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final
from uuid import UUID

from chassis.clock import milliseconds, read_rfc3339

#: Lines of one request: a second or less of work for the API where passwords come hashed, so progress is seen.
CHUNK_LINES: Final = 2000
#: Bytes of one request, half of what the API takes.
REQUEST_BYTES: Final = 8 * 1024 * 1024
#: The API's limit for one line. Its constant (command_api/imports/lines.py) is not imported, since an import needs
#: nothing else of the API; a test compares the two.
LONGEST_LINE_BYTES: Final = 64 * 1024
#: The null of an absent id may be this one.
_NULL: Final = re.compile(rb"(?<=:)\s*null")
#: So much of a longer line is kept, for the file of rejects.
KEPT_BYTES: Final = REQUEST_BYTES


@dataclass(slots=True)
class Chunk:
    """The lines of one request, as they are in the source."""

    first_line: int
    lines: list[bytes] = field(default_factory=list)
    #: Numbers of the lines that the API would refuse as too long; they are not sent.
    too_long: set[int] = field(default_factory=set)
    bytes_read: int = 0

    def outgoing(self, time_ms: int) -> list[bytes]:
        """Return the lines of the request, in which every user has an id; `time_ms` is the source's time."""
        return list(self._outgoing(time_ms))

    def _outgoing(self, time_ms: int) -> Iterator[bytes]:
        for number, line in enumerate(self.lines, start=self.first_line):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)  # noqa: PLW2901 - some editors begin a file with it
            # An empty line in place of one that is too long keeps the numbers right.
            yield b"" if number in self.too_long else with_id(line, number, time_ms)


def read_chunks(source: BinaryIO, first_line: int) -> Iterator[Chunk]:
    """Read the rest of the source, a chunk at a time; its next line has the number `first_line`."""
    while (chunk := _read_chunk(source, first_line)).bytes_read:
        yield chunk
        first_line += len(chunk.lines)


def _read_chunk(source: BinaryIO, first_line: int) -> Chunk:
    chunk = Chunk(first_line)
    size = 0
    while len(chunk.lines) < CHUNK_LINES and size < REQUEST_BYTES:
        line = source.readline(KEPT_BYTES)
        if not line:
            break
        is_cut = len(line) == KEPT_BYTES and not line.endswith(b"\n")
        chunk.bytes_read += len(line) + (_skip_line(source) if is_cut else 0)
        kept = line.rstrip(b"\r\n")
        if len(kept) > LONGEST_LINE_BYTES:
            chunk.too_long.add(first_line + len(chunk.lines))
        size += len(kept)
        chunk.lines.append(kept)
    return chunk


def _skip_line(source: BinaryIO) -> int:
    """Pass over the rest of a line that would fill the memory."""
    skipped = 0
    while part := source.readline(LONGEST_LINE_BYTES):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def with_id(line: bytes, number: int, time_ms: int) -> bytes:
    """Return the line with an id where it is a JSON object without one, or with null; any other line unchanged."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return line
    # json.loads takes a byte order mark and UTF-16, which the API refuses: such a line is sent unchanged.
    if not isinstance(document, dict) or not document or not line.lstrip().startswith(b"{"):
        return line
    if document.get("id") is not None:
        return line
    identifier = str(line_id(line, number, _created_ms(document.get("created_at"), time_ms)))
    if "id" in document:
        return _in_place_of_null(line, identifier)
    return b'{"id":"%s",' % identifier.encode() + line.lstrip()[1:]


def _in_place_of_null(line: bytes, identifier: str) -> bytes:
    """The line with the id where its null was; unchanged where `id` comes twice, which the API refuses."""
    wanted = [(name, identifier if name == "id" else value) for name, value in _members(line)]
    for found in _NULL.finditer(line):
        # It may as well be another member's, an attribute's, or within a string: what comes out tells.
        with_it = b'%s"%s"%s' % (line[: found.start()], identifier.encode(), line[found.end() :])
        if _members(with_it) == wanted:
            return with_it
    return line


def _members(line: bytes) -> list[tuple[str, object]]:
    """Names and values as they come, repeated ones too; none where it is no JSON."""
    try:
        return list(json.loads(line, object_pairs_hook=list))
    except ValueError:
        return []


def _created_ms(created_at: object, otherwise: int) -> int:
    """The time that a user's id must have; where `created_at` is wrong the API says so, whatever the id."""
    try:
        return milliseconds(read_rfc3339(created_at)) if isinstance(created_at, str) else otherwise
    except ValueError:
        return otherwise


def line_id(line: bytes, number: int, time_ms: int) -> UUID:
    """Return a UUIDv7 that depends only on a time, the line's number and its content, and sorts by time and number."""
    digest = int.from_bytes(hashlib.sha256(line).digest()[:4], "big")
    low = (number & (2**42 - 1)) << 32 | digest
    value = (time_ms & (2**48 - 1)) << 80 | 7 << 76 | (low >> 62) << 64 | 2 << 62 | low & (2**62 - 1)
    return UUID(int=value)
