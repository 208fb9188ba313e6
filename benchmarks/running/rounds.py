"""Subject and reference in turns: A B A B …, so that what else the machine does meets both alike.

Ratios are taken within a round and only then summarised, so a slow drift of the machine cancels out.
"""

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from benchmarks.reporting.figures import Figure, figure_of, number, percentile, quotient, variation_of
from benchmarks.running.plan import Plan


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a probe: its figure, in the unit of its rounds, and further figures of the same run by name.

    A value that is NaN says that the run gave no figure at all.
    """

    value: float
    parts: Mapping[str, float] = field(default_factory=dict)
    #: What was measured one by one, where a percentile is wanted of several rounds.
    each: Sequence[float] = ()

    def figure(self, part: str = "") -> float:
        """Return a further figure, or without `part` the main one."""
        return self.parts[part] if part and not math.isnan(self.value) else self.value


Probe = Callable[[], Awaitable[Sample]]


class NoFigureError(Exception):
    """A probe gave no figure in this round; the message says why. The round goes on without it."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """The runs of every probe in every round."""

    unit: str
    samples: Mapping[str, list[Sample]]

    def __getitem__(self, name: str) -> Figure:
        """Return the figure of one probe, with its own variation."""
        return self.part(name)

    def part(self, name: str, part: str = "") -> Figure:
        """Return a further figure of one probe, or without `part` its main one."""
        return figure_of(self._values(name, part))

    def ratio(self, subject: str, reference: str, part: str = "", *, guard: str = "") -> Figure:
        """Return subject divided by reference, round by round.

        It carries the reference's variation in `guard` (its main figure without): a percentile far out always varies,
        whether the machine was calm shows in the middle. A round in which one of both gave no figure, or the reference
        0, has no ratio.
        """
        return self.combined(subject, reference, quotient, part, guard=guard)

    def combined(
        self, subject: str, reference: str, how: Callable[[float, float], float], part: str = "", *, guard: str = ""
    ) -> Figure:
        """Return what is made of subject and reference, round by round, as a ratio is."""
        pairs = zip(self._values(subject, part), self._values(reference, part), strict=True)
        return figure_of([how(a, b) for a, b in pairs], variation_of(self._values(reference, guard)))

    def tails(self, subject: str, reference: str, part: float, *, guard: str) -> Figure:
        """Return a percentile of what the subject measured one by one, divided by the reference's.

        Of all rounds but one, each left out in turn: one bad moment of the machine decides that of a short round, and
        not that of all others. It carries the reference's variation in `guard`, as in `ratio`.
        """
        values = [self._tail(subject, reference, part, but) for but in range(len(self.samples[subject]))]
        return figure_of(values, variation_of(self._values(reference, guard)))

    def _tail(self, subject: str, reference: str, part: float, but: int) -> float:
        if any(math.isnan(self.samples[name][but].value) for name in (subject, reference)):
            return math.nan
        if len(self.samples[subject]) == 1:
            but = -1  # of a quick run's only round
        return quotient(percentile(self.each(subject, but=but), part), percentile(self.each(reference, but=but), part))

    def each(self, name: str, *, but: int | None = None) -> list[float]:
        """Return what a probe measured one by one, in all rounds `but` one."""
        return [one for number, sample in enumerate(self.samples[name]) if number != but for one in sample.each]

    def _values(self, name: str, part: str) -> tuple[float, ...]:
        return tuple(sample.figure(part) for sample in self.samples[name])


async def interleave(
    plan: Plan, probes: Mapping[str, Probe], *, unit: str, warm_up: bool = True, rounds: int | None = None
) -> Rounds:
    """Run every probe in every round, in the order given; a first round warms up and is left out.

    A quick plan goes without warming up. A probe that raises NoFigureError, or takes longer than it may, has no figure
    in that round.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in probes}
    first = 0 if warm_up and not plan.quick else 1
    last = rounds or plan.rounds
    for turn in range(first, last + 1):
        for name, probe in probes.items():
            began = time.perf_counter()
            which = f"round {turn}/{last}" if turn else "warm-up"
            try:
                sample = await probe()
            except (NoFigureError, TimeoutError) as error:
                sample = Sample(math.nan)
                plan.say(f"{which}: {name}: {str(error) or 'it took too long'}")
            seconds = time.perf_counter() - began
            plan.say(f"{which}: {name}: {number(sample.value)} {unit} ({seconds:.1f} s)")
            if turn:
                samples[name].append(sample)
    return Rounds(unit, samples)


def pooled(rounds: Rounds, slices: int) -> Rounds:
    """Rounds made of so many turns each, with the mean of their figures: for rates over equal times.

    A machine that is slow for a second then slows a slice of a probe down, and of its reference's as well, not a round.
    """
    return Rounds(
        rounds.unit,
        {
            name: [_mean(samples[start : start + slices]) for start in range(0, len(samples), slices)]
            for name, samples in rounds.samples.items()
        },
    )


def _mean(samples: Sequence[Sample]) -> Sample:
    if any(math.isnan(sample.value) for sample in samples):
        return Sample(math.nan)
    parts = {name: fmean(sample.parts[name] for sample in samples) for name in samples[0].parts}
    return Sample(fmean(sample.value for sample in samples), parts)
