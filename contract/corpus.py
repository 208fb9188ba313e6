"""The corpus: records of every type and version that was ever published, byte for byte, and their SHA-256.

A file is written once and never changed: `SHA256SUMS` may only grow. Each file is one record as Kafka has it.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

SUMS: Final = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class CorpusRecord:
    """One record: its file's name, and what Kafka holds."""

    name: str
    key: bytes | None
    headers: list[tuple[str, bytes | None]]
    value: bytes | None

    @property
    def type(self) -> str:
        """`ce_type`."""
        return (dict(self.headers)["ce_type"] or b"").decode()

    def text(self) -> str:
        """As the file has it: key, value and every header's value in base64, or null."""
        headers = [[name, _encode(value)] for name, value in self.headers]
        document = {"key": _encode(self.key), "headers": headers, "value": _encode(self.value)}
        return json.dumps(document, indent=1) + "\n"


def read_corpus(folder: Path) -> list[CorpusRecord]:
    """Every record of a folder, by name."""
    return [_record(path) for path in sorted(folder.glob("*.json"))]


def read_sums(path: Path) -> dict[str, str]:
    """The SHA-256 of each file, as `sha256sum` writes them."""
    lines = (line.split("  ", 1) for line in path.read_text(encoding="ascii").splitlines())
    return {name: digest for digest, name in lines}


def sums_of(folder: Path) -> dict[str, str]:
    """What `SHA256SUMS` should say."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.json"))}


def changed_files(folder: Path, released: dict[str, str]) -> Iterator[str]:
    """What is wrong with the files and their sums, compared with those of the last release."""
    found, noted = sums_of(folder), read_sums(folder / SUMS)
    for name in sorted(released.keys() - found.keys()):
        yield f"{name}: the file is missing; such records are on logs: bring it back with git"
    for name in sorted(released.keys() & found.keys()):
        if found[name] != released[name]:
            yield f"{name}: the file was changed; records on logs are as it was: bring it back, add another file beside"
    for name in sorted(found.keys() | noted.keys()):
        if released.get(name) == found.get(name) and noted.get(name) == found.get(name):
            continue
        if name not in released and name not in noted:
            yield f"{name}: {SUMS} does not have it: run `sha256sum *.json > {SUMS}` in events/corpus"
        elif noted.get(name) != found.get(name):
            yield f"{name}: {SUMS} says otherwise: bring the file back, or where it is new add its line again"


def _record(path: Path) -> CorpusRecord:
    document = json.loads(path.read_bytes())
    headers = [(name, _decode(value)) for name, value in document["headers"]]
    return CorpusRecord(path.stem, _decode(document["key"]), headers, _decode(document["value"]))


def _encode(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()


def _decode(text: Any) -> bytes | None:
    return None if text is None else b64decode(text, validate=True)
