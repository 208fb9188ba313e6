"""The places of imports in one process: some run, and a few more bodies may be on their way.

A body on its way takes no place among those that run, and of one caller only a few may be: whoever sends half of one
and stops keeps nobody else out. Nor does who sends whole ones and does not read the answers: of one caller fewer may
run than there are places, and an answer is waited for only so long (ANSWER_SECONDS).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Imports that run at once in one process: more of them would only share the same cores.
IMPORTS_AT_ONCE: Final = 2
#: One caller may run so many, so that there is a place for another.
RUNS_OF_A_CALLER: Final = IMPORTS_AT_ONCE - 1
#: An import waits in its place for its client to read for so long, all in all. The largest answer is about as large as
#: the largest body, and takes two minutes over a line of 1 Mbit/s.
ANSWER_SECONDS: Final = 150.0
#: Bodies in memory at once, of imports that run too: each may have IMPORT_BYTES.
BODIES_AT_ONCE: Final = 8
#: One caller may have so many on their way.
BODIES_OF_A_CALLER: Final = 3


class ImportsBusyError(Exception):
    """All places for imports, running or coming, are taken in this process; the message is for the client."""


class Places:
    """The imports of one process."""

    def __init__(self, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        """All free; each import waits for so many seconds, all in all, for its client to read."""
        self.answer_seconds = answer_seconds
        #: The bodies on their way or worked on, by caller.
        self.bodies: Counter[str] = Counter()
        #: Those that run, by caller.
        self.runs: Counter[str] = Counter()

    @contextmanager
    def for_body(self, caller: str) -> Iterator[None]:
        """Let a body of the caller's be read, and kept until the block ends.

        Raises:
            ImportsBusyError: there is no place to run it in, or too many bodies are here.
        """
        self._require_place(caller)
        if self.bodies.total() >= BODIES_AT_ONCE:
            raise ImportsBusyError(f"{BODIES_AT_ONCE} imports are being sent to this process; send yours later")
        if self.bodies[caller] >= BODIES_OF_A_CALLER:
            raise ImportsBusyError(f"you are sending {BODIES_OF_A_CALLER} imports to this process; finish one first")
        with _counted(self.bodies, caller):
            yield

    @contextmanager
    def for_run(self, caller: str) -> Iterator[None]:
        """Hold one of the IMPORTS_AT_ONCE places.

        Raises:
            ImportsBusyError: all are taken, or the caller has as many as one may have.
        """
        self._require_place(caller)
        with _counted(self.runs, caller):
            yield

    def _require_place(self, caller: str) -> None:
        if self.runs.total() >= IMPORTS_AT_ONCE:
            raise ImportsBusyError(f"{IMPORTS_AT_ONCE} imports run in this process; send yours when one has ended")
        if self.runs[caller] >= RUNS_OF_A_CALLER:
            raise ImportsBusyError("an import of yours runs in this process; read its answer, then send the next")


@contextmanager
def _counted(counter: Counter[str], caller: str) -> Iterator[None]:
    counter[caller] += 1
    try:
        yield
    finally:
        counter[caller] -= 1
        if not counter[caller]:
            del counter[caller]
