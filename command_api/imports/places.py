"""The places of imports in one process: some run, and a few more bodies may be on their way.

A body on its way takes no place among those that run, of one caller only a few may be, and one that comes too slowly
gives way to another: whoever sends half of one and stops keeps nobody else out. Nor does who sends whole ones and does
not read the answers: of one caller fewer may run than there are places, and an answer is waited for only so long
(ANSWER_SECONDS).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from chassis.http.transport.client import Client, client
from command_api.imports.lines import IMPORT_BYTES

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
#: The largest body takes as long over a line of 1 Mbit/s; no body may take longer.
BODY_SECONDS: Final = 150.0
#: A body that comes more slowly, all in all, gives way where another one has no place: about 1 Mbit/s.
BODY_BYTES_PER_SECOND: Final = IMPORT_BYTES / BODY_SECONDS
#: So much of a body may be late: what buffers on the way hold back.
LATE_BYTES: Final = 64 * 1024


class ImportsBusyError(Exception):
    """All places for imports, running or coming, are taken in this process; the message is for the client."""


class Body:
    """One body of an import, on its way and then worked on; it has a place from its first bytes on."""

    def __init__(self, places: Places, caller: str) -> None:
        """Of the caller's; nothing of it has come."""
        self.caller = caller
        #: Told once, when another body gets its place: it is not to be read on.
        self.on_giving_way: Callable[[], None] = lambda: None
        self.has_given_way = False
        self._places = places
        self._client: Client = client.get()
        self._begun = 0.0
        self._bytes = 0

    def came(self, size: int) -> None:
        """So many bytes of it more.

        Raises:
            ImportsBusyError: they are the first, and there is no place for it.
        """
        if size and not self._bytes:
            self._places.let_in(self)
            self._begun = self._places.now()
        self._bytes += size

    def give_way(self) -> None:
        """Let another have its place."""
        self.has_given_way = True
        self.on_giving_way()

    def rate(self) -> float:
        """How it comes, in bytes a second."""
        return self._bytes / max(self._places.now() - self._begun, 1e-9)

    def is_slow(self) -> bool:
        """Whether it is on its way, and more of it is late than may be."""
        due = (self._places.now() - self._begun) * BODY_BYTES_PER_SECOND
        return not self._client.has_sent_all and self._bytes + LATE_BYTES < due


class Places:
    """The imports of one process."""

    def __init__(self, *, answer_seconds: float = ANSWER_SECONDS, now: Callable[[], float] = time.monotonic) -> None:
        """All free; each import waits for `answer_seconds`, all in all, for its client to read; `now` gives seconds."""
        self.answer_seconds = answer_seconds
        self.now = now
        #: On their way or worked on.
        self.bodies: list[Body] = []
        #: Those that run, by caller.
        self.runs: Counter[str] = Counter()

    @contextmanager
    def for_body(self, caller: str) -> Iterator[Body]:
        """Let a body of the caller's be read, and kept until the block ends.

        Raises:
            ImportsBusyError: there is no place to run it in, or too many bodies are here.
        """
        self._require_place(caller)
        self._who_gives_way_to(caller)
        body = Body(self, caller)
        try:
            yield body
        finally:
            if body in self.bodies:
                self.bodies.remove(body)

    def let_in(self, body: Body) -> None:
        """Give it a place, if need be that of one that comes too slowly.

        Raises:
            ImportsBusyError: there is none.
        """
        slowest = self._who_gives_way_to(body.caller)
        if slowest:
            self.bodies.remove(slowest)
            slowest.give_way()
        self.bodies.append(body)

    def _who_gives_way_to(self, caller: str) -> Body | None:
        if sum(body.caller == caller for body in self.bodies) >= BODIES_OF_A_CALLER:
            raise ImportsBusyError(f"you are sending {BODIES_OF_A_CALLER} imports to this process; finish one first")
        if len(self.bodies) < BODIES_AT_ONCE:
            return None
        slow = [body for body in self.bodies if body.is_slow()]
        if not slow:
            raise ImportsBusyError(f"{BODIES_AT_ONCE} imports are being sent to this process; send yours later")
        return min(slow, key=Body.rate)

    @contextmanager
    def for_run(self, caller: str) -> Iterator[None]:
        """Hold one of the IMPORTS_AT_ONCE places.

        Raises:
            ImportsBusyError: all are taken, or the caller has as many as one may have.
        """
        self._require_place(caller)
        self.runs[caller] += 1
        try:
            yield
        finally:
            self.runs[caller] -= 1
            if not self.runs[caller]:
                del self.runs[caller]

    def _require_place(self, caller: str) -> None:
        if self.runs.total() >= IMPORTS_AT_ONCE:
            raise ImportsBusyError(f"{IMPORTS_AT_ONCE} imports run in this process; send yours when one has ended")
        if self.runs[caller] >= RUNS_OF_A_CALLER:
            raise ImportsBusyError("an import of yours runs in this process; read its answer, then send the next")
