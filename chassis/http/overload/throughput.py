"""How many turns a process gives in a second while others wait for theirs: what a queue is measured by."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

#: Long enough that the turns of one batch of the database's answers do not pass for a pace.
SAMPLE_SECONDS: Final = 0.1
#: The best of so many samples counts, the last two seconds: a pause in them, of the database or ours, is no pace.
SAMPLES: Final = 20


class Throughput:
    """The turns of one queue, from the first who waits until nobody does."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        #: Of the sample under way: its begin, its turns, and the last of them.
        self._begin = self._last = -math.inf
        self._turns = 0
        self.forget()

    def note(self, now: float) -> None:
        """Count a turn that was given, at the loop's time."""
        if now - self._last > SAMPLE_SECONDS:
            self._begin_sample(now)
        else:
            self._turns += 1
            if now - self._begin >= SAMPLE_SECONDS:
                self._samples.append(self._turns / (now - self._begin))
                self.best = max(self._samples)
                self._begin_sample(now)
        self._last = now

    def forget(self) -> None:
        """Nobody waits any more; those who come later may ask for other work."""
        self._samples.clear()
        #: Turns a second; without end while it is not known.
        self.best = math.inf
        self._last = -math.inf

    def _begin_sample(self, now: float) -> None:
        self._begin, self._turns = now, 0
