"""How many imports one process takes: some run, and a few more bodies may be on their way.

A body on its way takes no place among those that run, and of one caller only a few may be: whoever sends half of one
and stops keeps nobody else out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Imports that run at once in one process: more of them would only share the same cores.
IMPORTS_AT_ONCE: Final = 2
#: Bodies in memory at once, of imports that run too: each may have IMPORT_BYTES.
BODIES_AT_ONCE: Final = 8
#: Of one caller.
BODIES_OF_A_CALLER: Final = 3


class ImportsBusyError(Exception):
    """As many imports run, or come, in this process as it takes; the message is for the client."""


class Places:
    """The imports of one process."""

    def __init__(self) -> None:
        """All free."""
        #: On their way or worked on, by caller.
        self.bodies: Counter[str] = Counter()
        self._running = 0

    @contextmanager
    def for_body(self, caller: str) -> Iterator[None]:
        """Let a body of the caller's be read, and kept until the block ends.

        Raises:
            ImportsBusyError: imports run in all places, or too many bodies are here.
        """
        self._require_place()
        if self.bodies.total() >= BODIES_AT_ONCE:
            raise ImportsBusyError(f"{BODIES_AT_ONCE} imports are being sent to this process; send yours later")
        if self.bodies[caller] >= BODIES_OF_A_CALLER:
            raise ImportsBusyError(f"you are sending {BODIES_OF_A_CALLER} imports to this process; finish one first")
        self.bodies[caller] += 1
        try:
            yield
        finally:
            self.bodies -= Counter({caller: 1})

    @contextmanager
    def for_run(self) -> Iterator[None]:
        """Hold one of the IMPORTS_AT_ONCE places.

        Raises:
            ImportsBusyError: all are taken.
        """
        self._require_place()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def _require_place(self) -> None:
        if self._running >= IMPORTS_AT_ONCE:
            raise ImportsBusyError(f"{IMPORTS_AT_ONCE} imports run in this process; send yours when one has ended")
