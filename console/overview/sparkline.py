"""A line of the last hour as SVG: points as numbers, so nothing in it needs to be escaped, and no style within."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

WIDTH: Final = 120
HEIGHT: Final = 28
#: Room for the line's own width.
_EDGE: Final = 2


def sparkline(values: Sequence[float | None], label: str) -> Markup:
    """A line through the values; minutes of which nothing is known leave a gap. `label` says it in words."""
    lines = "".join(_line(run) for run in _runs(_points(values)))
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(
        WIDTH,
        HEIGHT,
        label,
        Markup(lines),  # noqa: S704 - numbers of ours
    )


def _points(values: Sequence[float | None]) -> list[tuple[float, float] | None]:
    greatest = max((value for value in values if value is not None), default=0.0) or 1.0
    step = WIDTH / max(len(values) - 1, 1)
    return [
        None if value is None else (index * step, HEIGHT - _EDGE - value / greatest * (HEIGHT - 2 * _EDGE))
        for index, value in enumerate(values)
    ]


def _runs(points: Sequence[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    """The points between gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is not None:
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _line(run: Sequence[tuple[float, float]]) -> str:
    if len(run) == 1:  # a single minute is seen as a dot
        return f'<circle cx="{run[0][0]:.1f}" cy="{run[0][1]:.1f}" r="1.5"/>'
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in run)}"/>'
