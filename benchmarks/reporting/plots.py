"""Pictures of a result, as SVG: a bar chart of what was measured, and the plots that a benchmark made."""

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from benchmarks.reporting.result import Measurement, Plot, Result

#: Inches: a plot is as wide as a page's text.
WIDTH: Final = 8.0
BAR_HEIGHT: Final = 0.35
LINE_HEIGHT: Final = 4.0

#: Text stays text, and ids are the same in every run, so that a page's history shows only what changed.
STYLE: Final = {"svg.fonttype": "none", "svg.hashsalt": "muster", "font.size": 9.0}


def draw(result: Result, folder: Path, name: str) -> list[tuple[str, Path]]:
    """Write every picture; return (title, file) of each."""
    # It takes a second to import, and only this needs it.
    from matplotlib import rc_context  # noqa: PLC0415 - as above

    with rc_context(STYLE):
        pictures = [_lines(plot, folder / f"{name}-{plot.name}.svg") for plot in result.plots]
        charted = [item for item in result.measurements if item.figure.rounds and not item.figure.counted]
        if charted:
            pictures.append(_bars(result.title, charted, folder / f"{name}.svg"))
    return pictures


def _bars(title: str, items: list[Measurement], file: Path) -> tuple[str, Path]:
    """Draw one chart for each unit, whose bars show the range of their rounds."""
    ordered = sorted(items, key=lambda item: item.unit)
    groups = [(unit, list(group)) for unit, group in groupby(ordered, key=lambda item: item.unit)]
    heights = [len(group) * BAR_HEIGHT + 0.8 for _, group in groups]
    figure, axes = _canvas(sum(heights), len(groups), heights)
    for axis, (unit, group) in zip(axes, groups, strict=True):
        medians = [item.figure.median for item in group]
        below = [item.figure.median - item.figure.low for item in group]
        above = [item.figure.high - item.figure.median for item in group]
        axis.barh([item.name for item in group], medians, xerr=[below, above], color="#4878a8", capsize=3)
        axis.invert_yaxis()
        axis.set_xlabel(f"{unit} (median, min – max)")
    axes[0].set_title(title)
    return _save(figure, file, title)


def _lines(plot: Plot, file: Path) -> tuple[str, Path]:
    figure, [axis] = _canvas(LINE_HEIGHT, 1, [LINE_HEIGHT])
    for label, points in plot.lines.items():
        axis.plot([x for x, _ in points], [y for _, y in points], marker="o", label=label)
    if plot.log_x:
        axis.set_xscale("log")
    if plot.log_y:
        axis.set_yscale("log")
    else:
        axis.set_ylim(bottom=0)
    axis.set_xlabel(plot.x)
    axis.set_ylabel(plot.y)
    axis.set_title(plot.title)
    axis.grid(visible=True, alpha=0.3)
    # Beside the lines, of which it would hide some.
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _save(figure, file, plot.title)


def _canvas(height: float, rows: int, ratios: Sequence[float]) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    # pyplot would keep every figure and look for a screen.
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(rows, 1, squeeze=False, height_ratios=ratios)[:, 0])


def _save(figure: Any, file: Path, title: str) -> tuple[str, Path]:
    figure.savefig(file, format="svg", metadata={"Date": None})
    # matplotlib ends lines with blanks, which tools complain about.
    file.write_text(re.sub(r"[ \t]+$", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8")
    return title, file
