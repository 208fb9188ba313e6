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
    `counted` figures are exact however often they are taken: a count, a size. `missing` rounds gave none, and are not
    among the values; without any value the median and the range are NaN.
    """

    values: tuple[float, ...]
    variation: float = 0.0
    counted: bool = False
    missing: int = 0

    @classmethod
    def once(cls, value: float) -> Self:
        """Return a count or a size, which needs no rounds; never for a time, or a ratio of times. NaN is no figure."""
        return cls(() if math.isnan(value) else (value,), counted=True, missing=int(math.isnan(value)))

    @property
    def median(self) -> float:
        """The median, which is what is claimed."""
        return statistics.median(self.values) if self.values else math.nan

    @property
    def low(self) -> float:
        """The least of the rounds."""
        return min(self.values, default=math.nan)

    @property
    def high(self) -> float:
        """The greatest of the rounds."""
        return max(self.values, default=math.nan)

    @property
    def rounds(self) -> int:
        """How often it was measured."""
        return len(self.values)

    @property
    def gap(self) -> str:
        """In words how many rounds gave no figure; empty where all did."""
        return f"no figure in {self.missing} of {self.missing + self.rounds} rounds" if self.missing else ""


def variation_of(values: Sequence[float]) -> float:
    """Return the farthest round's distance from the median, as a part of it; infinite where there is none, or it is 0.

    Rounds without a figure (NaN) do not count.
    """
    present = [value for value in values if not math.isnan(value)]
    middle = statistics.median(present) if present else 0.0
    return max(abs(value - middle) for value in present) / middle if middle else math.inf


def figure_of(values: Sequence[float], variation: float | None = None) -> Figure:
    """Return the figure of rounds of which some may have given none (NaN); without `variation` it has its own."""
    present = tuple(value for value in values if not math.isnan(value))
    return Figure(present, variation_of(values) if variation is None else variation, missing=len(values) - len(present))


def quotient(dividend: float, divisor: float) -> float:
    """Return the one divided by the other; NaN, which is no figure, where the divisor is 0."""
    return dividend / divisor if divisor else math.nan


def percentile(values: Sequence[float], part: float) -> float:
    """Return the percentile by nearest rank; NaN where there are no values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * part) - 1)]


def number(value: float) -> str:
    """Return a value with three significant digits, and all digits before the point; `none` where there is none."""
    if math.isnan(value):
        return "none"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def span(figure: Figure) -> str:
    """Return the range of the rounds; empty where there is only one value."""
    return f"{number(figure.low)} – {number(figure.high)}" if figure.rounds > 1 else ""
