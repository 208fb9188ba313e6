"""Figures of a measurement: medians with their range over rounds, and percentiles within one."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity, once per round, in the order of the rounds.

    `variation` is that of the reference it was divided by (or its own, where it stands alone): see `variation_of`.
    `counted` figures are exact however often they are taken: a count, a size.
    """

    values: tuple[float, ...]
    variation: float = 0.0
    counted: bool = False

    @classmethod
    def once(cls, value: float) -> Self:
        """Return a count or a size, which needs no rounds; never for a time, or a ratio of times."""
        return cls((value,), counted=True)

    @property
    def median(self) -> float:
        """The median, which is what is claimed."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The least of the rounds."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The greatest of the rounds."""
        return max(self.values)

    @property
    def rounds(self) -> int:
        """How often it was measured."""
        return len(self.values)


def variation_of(values: Sequence[float]) -> float:
    """Return the farthest round's distance from the median, as a part of it; infinite where the median is 0."""
    middle = statistics.median(values)
    return max(abs(value - middle) for value in values) / middle if middle else math.inf


def percentile(values: Sequence[float], part: float) -> float:
    """Return the percentile by nearest rank; NaN where there are no values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * part) - 1)]


def number(value: float) -> str:
    """Return a value with three significant digits, and all digits before the point."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def span(figure: Figure) -> str:
    """Return the range of the rounds; empty where there is only one value."""
    return f"{number(figure.low)} – {number(figure.high)}" if figure.rounds > 1 else ""
