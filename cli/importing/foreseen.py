"""The memory of a dry run: who the chunks so far would have registered.

The API foresees the lines of one request, and forgets them. So a line that meets one of an earlier chunk is found here,
by the keys that the API compares, and answered in its words.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final, Self

from chassis.http.problems import ProblemType
from chassis.text_keys import email_key, text_key
from command_api.problems import EMAIL_TAKEN, USERNAME_TAKEN

#: Bytes of a key's digest: among a billion keys two have the same by a chance of one in 10^20.
_DIGEST_BYTES: Final = 16
#: The outcomes that may be others, once a line has met somebody of an earlier chunk.
_OPEN: Final = frozenset({"created", EMAIL_TAKEN.uri, USERNAME_TAKEN.uri})

#: The API's answer to one line.
Result = dict[str, Any]


class Foreseen:
    """Ids, addresses and names of one file that are taken so far; on disk, so that memory stays constant."""

    def __init__(self) -> None:
        """Nobody yet."""
        # A database without a name is a file that nobody else sees, and that is gone with the connection.
        self._keys = sqlite3.connect("")
        self._keys.execute("CREATE TABLE taken (digest BLOB PRIMARY KEY) WITHOUT ROWID")

    def __enter__(self) -> Self:
        """Hold the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        self._keys.close()

    def corrections(self, lines: list[bytes], results: list[Result]) -> dict[int, Result]:
        """Return by its number, the first being 1, each line that fares otherwise because of an earlier chunk."""
        corrected: dict[int, Result] = {}
        for result in results:
            if (result["problem"]["type"] if "problem" in result else result["status"]) in _OPEN:
                other = self._meet(result, lines[result["line"] - 1])
                if other != result:
                    corrected[result["line"]] = other
        return corrected

    def add(self, lines: list[bytes], results: list[Result]) -> None:
        """Take what those have who would be created."""
        created = (lines[result["line"] - 1] for result in results if result["status"] == "created")
        self._keys.executemany(
            "INSERT OR IGNORE INTO taken VALUES (?)", ((key,) for line in created for key in _keys(line))
        )

    def _meet(self, result: Result, line: bytes) -> Result:
        has_id, has_email, has_username = map(self._is_taken, _keys(line))
        if has_id:
            return {"line": result["line"], "status": "unchanged"}
        if has_email:
            return _refused(result, EMAIL_TAKEN)
        # Another address is looked at before the name.
        return _refused(result, USERNAME_TAKEN) if has_username and result["status"] == "created" else result

    def _is_taken(self, key: bytes) -> bool:
        with closing(self._keys.execute("SELECT EXISTS (SELECT 1 FROM taken WHERE digest = ?)", (key,))) as found:
            return bool(found.fetchone()[0])


def _keys(line: bytes) -> Iterator[bytes]:
    """Digests of the id, the address and the name."""
    user = json.loads(line)
    for kind, key in (("i", user["id"].lower()), ("e", email_key(user["email"])), ("u", text_key(user["username"]))):
        yield hashlib.sha256(f"{kind}{key}".encode()).digest()[:_DIGEST_BYTES]


def _refused(result: Result, kind: ProblemType) -> Result:
    problem = {"type": kind.uri, "title": kind.title, "status": kind.status, "detail": kind.meaning}
    return {"line": result["line"], "status": "failed", "problem": problem}
