"""The last hour of each figure, in memory: the greatest value of each minute."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Final

MINUTES: Final = 60


class History:
    """Figures by name; what is older than an hour is forgotten."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: dict[str, deque[tuple[int, float]]] = {}

    def add(self, name: str, at: datetime, value: float | None) -> None:
        """Note a figure; None where it is not known."""
        if value is None:
            return
        minute, points = _minute(at), self._known.setdefault(name, deque(maxlen=MINUTES))
        if points and points[-1][0] == minute:
            points[-1] = minute, max(value, points[-1][1])
        else:
            points.append((minute, value))

    def series(self, name: str, now: datetime) -> Sequence[float | None]:
        """One value a minute, the present one last; None where nothing was noted."""
        known, last = dict(self._known.get(name, ())), _minute(now)
        return [known.get(minute) for minute in range(last - MINUTES + 1, last + 1)]


def _minute(at: datetime) -> int:
    return int(at.timestamp()) // 60
