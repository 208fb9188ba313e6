"""Makes the file of a block list from a list of any size, in memory of one size.

The entries are sorted run by run into a file that has no name, and the runs are merged into a new file, which takes its
name only when it is whole.
"""

from __future__ import annotations

import os
import re
import sys
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from heapq import merge
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO, Final, NamedTuple

from command_api.passwords.blocklist_file import ENTRY_BYTES, HEAD_BYTES, entry_of, folded, head_of

#: Entries that are sorted at once: 70 MB of memory.
RUN_ENTRIES: Final = 1_000_000
#: Read of each run at a time; a billion entries are a thousand runs.
BLOCK_BYTES: Final = 64 * 1024
#: More is no password, whatever the file is.
LINE_BYTES: Final = 16 * 1024
#: Have I Been Pwned has `:count` behind it.
_SHA1: Final = re.compile(rb"([0-9A-Fa-f]{40})(?::\d+)?")
_BOM: Final = b"\xef\xbb\xbf"


class WrongLineError(ValueError):
    """A line of the list is no password and no SHA-1; says which, why, and what to do."""


class Built(NamedTuple):
    """The result of a build."""

    lines: int
    entries: int
    bytes: int


def build(source: IO[bytes], target: Path, *, run_entries: int = RUN_ENTRIES) -> Built:
    """Make the file `target` of a list: a password, or the SHA-1 of one in hexadecimal, a line; empty lines are none.

    Raises:
        WrongLineError: a line is neither, or there is none at all; `target` is as it was.
        OSError: a file could not be read or written; `target` is as it was.
    """
    lines = 0

    def counted() -> Iterator[int]:
        nonlocal lines
        for entry in _entries(source):
            lines += 1
            yield entry

    with TemporaryFile(dir=target.parent) as runs:
        ends = _sort(counted(), runs, run_entries)
        if not lines:
            raise WrongLineError("the list is empty: give one with a password, or the SHA-1 of one, a line")
        starts = [0, *ends[:-1]]
        merged = merge(*(_run(runs, start, end) for start, end in zip(starts, ends, strict=True)))
        entries = _write(merged, target)
    return Built(lines, entries, HEAD_BYTES + ENTRY_BYTES * entries)


def _entries(source: IO[bytes]) -> Iterator[int]:
    """The entry of each line."""
    for number, line in enumerate(iter(partial(source.readline, LINE_BYTES), b""), start=1):
        text = (line.removeprefix(_BOM) if number == 1 else line).rstrip(b"\r\n")
        if len(line) == LINE_BYTES:
            raise WrongLineError(f"line {number} has {LINE_BYTES} bytes or more, as no password has; is this a list?")
        if sha1 := _SHA1.fullmatch(text):
            yield int(sha1[1][: 2 * ENTRY_BYTES], 16)
        elif text:
            try:
                yield entry_of(folded(text.decode()))
            except UnicodeDecodeError as error:
                raise WrongLineError(
                    f"line {number} is not UTF-8: convert the list, for instance with iconv -f latin1 -t utf-8"
                ) from error


def _sort(entries: Iterator[int], runs: IO[bytes], run_entries: int) -> list[int]:
    """Write the entries in sorted runs; gives the ends of these."""
    ends = []
    while run := array("Q", sorted(islice(entries, run_entries))):
        runs.write(run)
        ends.append(runs.tell())
    runs.flush()
    return ends


def _run(runs: IO[bytes], start: int, end: int) -> Iterator[int]:
    """The entries of one run, read block by block."""
    for place in range(start, end, BLOCK_BYTES):
        yield from array("Q", os.pread(runs.fileno(), min(BLOCK_BYTES, end - place), place))


def _write(entries: Iterable[int], target: Path) -> int:
    """Write entries that are in order, each once, as `target`; gives how many they are."""
    with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}-", delete=False) as file:
        try:
            file.write(bytes(HEAD_BYTES))
            count, last = 0, -1
            for entry in entries:
                if entry != last:
                    file.write(entry.to_bytes(ENTRY_BYTES, sys.byteorder))
                    count, last = count + 1, entry
            file.seek(0)
            file.write(head_of(count))
            file.flush()
            os.fsync(file.fileno())
            # It is no secret, and who builds it need not be who serves.
            Path(file.name).chmod(0o644)
            Path(file.name).replace(target)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(file.name).unlink()
            raise
    return count
