"""Bars: what a figure must reach or stay under, and what may be said of it.

The noise guard: where one of the reference's rounds is further than a quarter of their median away from it, or where
they are too few, nothing is claimed, however good the figure looks.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from benchmarks.reporting.figures import Figure
from benchmarks.running.plan import ROUNDS

#: Where a round of the reference is further from its median than this part of it, the machine was not calm.
GREATEST_VARIATION: Final = 0.25


class Verdict(Enum):
    """The verdict on a bar; the value is the word in tables."""

    HOLDS = "holds"
    MISSED = "missed"
    NOISY = "too noisy to claim"
    NOT_CLAIMED = "not claimed: too few rounds"


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit that the median must reach (`at_least`) or stay under.

    `every_round`: that the worst of the rounds must keep. Then their spread forbids no claim, it is what is judged.
    """

    limit: float
    at_least: bool
    every_round: bool = False

    def verdict(self, figure: Figure) -> Verdict:
        """Return the verdict on the figure."""
        if not figure.rounds:
            return Verdict.NOT_CLAIMED
        if not figure.counted:
            if figure.rounds < ROUNDS:
                return Verdict.NOT_CLAIMED
            if figure.variation > GREATEST_VARIATION and not self.every_round:
                return Verdict.NOISY
        worst = figure.low if self.at_least else figure.high
        judged = worst if self.every_round else figure.median
        met = judged >= self.limit if self.at_least else judged <= self.limit
        return Verdict.HOLDS if met else Verdict.MISSED

    def __str__(self) -> str:
        """`≥ 1.3`, or `≥ 1.3 in every round`."""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{' in every round' if self.every_round else ''}"
