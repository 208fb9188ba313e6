"""A benchmark's result: figures, bars with their verdicts, facts and plots, whatever way they are shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.reporting.bars import Bar, Verdict
from benchmarks.reporting.figures import Figure, number
from benchmarks.running.rounds import Rounds


@dataclass(frozen=True, slots=True)
class Measurement:
    """A figure with its name and unit; `further` figures of the same unit are shown beside it."""

    name: str
    figure: Figure
    unit: str
    note: str = ""
    further: Mapping[str, Figure] = field(default_factory=dict)

    @property
    def remark(self) -> str:
        """Return the further figures in words, the note, and how many rounds gave no figure."""
        parts = [f"{name} {number(figure.median)}" for name, figure in self.further.items()]
        return " · ".join(filter(None, [*parts, self.note, self.figure.gap]))


@dataclass(frozen=True, slots=True)
class Claim:
    """A figure against its bar.

    `reason` says why it is missed, where it is known; `disturbance` who else used the machine, where that was much;
    `withheld` that nothing at all is said of it.
    """

    name: str
    figure: Figure
    unit: str
    bar: Bar
    reason: str = ""
    disturbance: str = ""
    withheld: bool = False

    @property
    def verdict(self) -> Verdict:
        """Return the verdict; that on a count holds whoever else used the machine."""
        if self.withheld:
            return Verdict.NOT_CLAIMED
        if self.disturbance and not self.figure.counted:
            return Verdict.NOISY
        return self.bar.verdict(self.figure)

    @property
    def lacks_figures(self) -> bool:
        """Whether nothing is claimed for want of figures, which says nothing good of what was measured."""
        return bool(self.figure.missing) and self.verdict is Verdict.NOT_CLAIMED and not self.withheld


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines of (x, y) points by name, for an SVG of its own."""

    name: str
    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    log_x: bool = False
    log_y: bool = False


@dataclass(slots=True)
class Result:
    """Figures, bars and notes, which a benchmark adds in the order in which they are read."""

    title: str
    notes: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Add a note about the method."""
        self.notes.append(sentence)

    def fact(self, name: str, value: str) -> None:
        """Add a size or a circumstance."""
        self.facts[name] = value

    def measured(
        self, name: str, figure: Figure, unit: str, note: str = "", further: Mapping[str, Figure] | None = None
    ) -> None:
        """Add a figure without a bar."""
        self.measurements.append(Measurement(name, figure, unit, note, further or {}))

    def observed(self, name: str, figure: Figure, unit: str = "×", note: str = "") -> None:
        """Add a ratio without a bar."""
        self.measured(name, figure, unit, note)

    def table(self, rounds: Rounds) -> None:
        """Add the figure of every probe."""
        for name in rounds.samples:
            self.measured(name, rounds[name], rounds.unit)

    def claim(  # noqa: PLR0913 - a claim has these parts
        self,
        name: str,
        figure: Figure,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        unit: str = "×",
        reason: str = "",
        every_round: bool = False,
    ) -> None:
        """Hold a figure to a bar, `at_least` or `at_most`: its median, or with `every_round` the worst of them all."""
        if (at_least is None) == (at_most is None):
            raise ValueError(f"{name}: a bar is either at_least or at_most")
        limit = at_most if at_least is None else at_least
        assert limit is not None
        self.claims.append(Claim(name, figure, unit, Bar(limit, at_least is not None, every_round), reason))

    def disturb(self, disturbance: str) -> None:
        """Forbid claims because others used the machine."""
        self.claims = [replace(claim, disturbance=disturbance) for claim in self.claims]

    def withhold(self) -> None:
        """Forbid claims because a quick run is too short for times, and too small for counts and sizes."""
        self.claims = [replace(claim, withheld=True) for claim in self.claims]

    def plot(self, plot: Plot) -> None:
        """Add a plot."""
        self.plots.append(plot)

    @property
    def holds(self) -> bool:
        """Whether no bar is missed or lacks figures; one that is too noisy to judge is not missed."""
        return not any(claim.verdict is Verdict.MISSED or claim.lacks_figures for claim in self.claims)
