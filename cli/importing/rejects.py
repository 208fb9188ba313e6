"""The lines that an import's API refused, kept ready to be corrected and imported again."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Self

from cli.terminal.output import fail


class Rejects:
    """Two files: the refused lines as they were, and beside them the reasons.

    Only their owner can read them, since a line holds a password or its hash. They are created with the first reject.
    """

    def __init__(self, path: Path, *, append: bool) -> None:
        """Prepare to write to this path, after what is there or instead of it."""
        self.path = path
        self.reasons = path.with_name(path.name + ".reasons")
        self._files: tuple[BinaryIO, BinaryIO] | None = None
        self._stack = ExitStack()
        if not path.parent.is_dir():
            fail(f"Cannot write {path}: there is no folder {path.parent}.", code=2)
        if not append:
            self._remove_old()

    def __enter__(self) -> Self:
        """Hold the files."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close them."""
        self._stack.close()

    def add(self, number: int, line: bytes, problem: dict[str, Any]) -> None:
        """Keep a refused line and the reason."""
        if self._files is None:
            self._files = self._open(self.path), self._open(self.reasons)
        lines, reasons = self._files
        lines.write(line + b"\n")
        reasons.write(json.dumps({"line": number, "problem": problem}, ensure_ascii=False).encode() + b"\n")

    def flush(self) -> None:
        """Hand everything to the system, before the progress file says that these lines are done."""
        for file in self._files or ():
            file.flush()

    def _remove_old(self) -> None:
        try:
            self.path.unlink(missing_ok=True)
            self.reasons.unlink(missing_ok=True)
        except OSError as error:
            fail(f"Cannot write {self.path}: {error.strerror}.", code=2)

    def _open(self, path: Path) -> BinaryIO:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return self._stack.enter_context(os.fdopen(descriptor, "ab"))
