"""The file of a larger block list, as `muster passwords build` writes it (blocklist_build.py).

A head of 16 bytes (MAGIC, the number of entries), then the entries in order, each once. An entry is the number that the
first 8 bytes of a SHA-1 are: at a billion entries one password in some billions is refused by chance, and no listed one
is let through. The file is mapped, so that all processes share what of it is in memory, and searched by halving, of
which Python sees nothing: numbers are written as this machine has them. One that was made where they are written the
other way round has another number of entries in its head, and is refused.
"""

from __future__ import annotations

import mmap
import sys
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path
from typing import Final, Self
from unicodedata import normalize

#: The last letter is the version of the form.
MAGIC: Final = b"MstrPwd1"
HEAD_BYTES: Final = 16
ENTRY_BYTES: Final = 8


class BlocklistFileError(ValueError):
    """The file cannot serve as a block list; says why, and what to do."""


def folded(text: str) -> str:
    """The form in which passwords are compared: casefolded, as NFC; equal where texts match but for their case.

    Source: Unicode 16.0, section 3.13.5, D145. Composed only afterwards, as casefolding decomposes some letters.
    """
    return normalize("NFC", normalize("NFD", text).casefold())


def entry_of(text: str) -> int:
    """The entry of a listed text, which is folded where the list has passwords and not their hashes."""
    return int.from_bytes(sha1(text.encode(), usedforsecurity=False).digest()[:ENTRY_BYTES], "big")


def head_of(count: int) -> bytes:
    """The beginning of a file of so many entries."""
    return MAGIC + count.to_bytes(HEAD_BYTES - len(MAGIC), sys.byteorder)


class BlocklistFile:
    """A mapped file. One that takes its place by its name is seen at the next start."""

    def __init__(self, entries: memoryview) -> None:
        """Use `open`, which looks at the head."""
        self._entries = entries

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Map the file until the block ends.

        Raises:
            BlocklistFileError: it cannot be read, is another kind of file, or was cut short.
        """
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise BlocklistFileError(f"names {path}, which cannot be read ({error.strerror}): mend that") from error
        except ValueError as error:  # an empty file
            raise BlocklistFileError(_no_list(path)) from error
        with mapped:
            if mapped[: len(MAGIC)] != MAGIC:
                raise BlocklistFileError(_no_list(path))
            expected = HEAD_BYTES + ENTRY_BYTES * int.from_bytes(mapped[len(MAGIC) : HEAD_BYTES], sys.byteorder)
            if len(mapped) != expected:
                raise BlocklistFileError(
                    f"names {path}, which has {len(mapped)} bytes, not the {expected} that its head tells of: make it"
                    " anew with `muster passwords build LIST FILE`"
                )
            with memoryview(mapped) as whole, whole[HEAD_BYTES:] as rest, rest.cast("Q") as entries:
                yield cls(entries)

    def __len__(self) -> int:
        """The number of entries."""
        return len(self._entries)

    def __contains__(self, entry: object) -> bool:
        """Whether the entry is listed."""
        assert isinstance(entry, int)
        place = bisect_left(self._entries, entry)
        return place < len(self._entries) and self._entries[place] == entry


def _no_list(path: Path) -> str:
    return f"names {path}, which is no block list: make one from your list with `muster passwords build LIST FILE`"
