"""The passwords that nobody may choose: the built-in list, and a larger one where there is a file of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final, Self
from unicodedata import normalize

from zxcvbn.frequency_lists import FREQUENCY_LISTS

from command_api.passwords.blocklist_file import BlocklistFile, entry_of, folded

#: 30,000 passwords, the most frequent ones of what has leaked.
BUILT_IN: Final = frozenset(map(folded, FREQUENCY_LISTS["passwords"]))


class Blocklist:
    """Tells whether a password is listed, whatever its case. A look-up takes some microseconds."""

    def __init__(self, file: BlocklistFile | None = None) -> None:
        """The built-in list, and that of the file."""
        self._file = file

    @classmethod
    @contextmanager
    def open(cls, path: Path | None) -> Iterator[Self]:
        """Keep the file, if there is one, mapped until the block ends.

        Raises:
            BlocklistFileError: it cannot serve.
        """
        with BlocklistFile.open(path) if path else nullcontext() as file:
            yield cls(file)

    def __contains__(self, password: object) -> bool:
        """Whether it is listed."""
        assert isinstance(password, str)
        key = folded(password)
        if key in BUILT_IN:
            return True
        if self._file is None:
            return False
        # A list of SHA-1 may have been made of any of the three.
        texts = dict.fromkeys((password, normalize("NFC", password), key))
        return any(entry_of(text) in self._file for text in texts)
