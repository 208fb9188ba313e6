"""Whether the machine was ours: processor time that neither this process nor anything it started has used.

Noise is also seen in how much a reference varies; but a machine that somebody else uses evenly varies little and is
slower all the same, and a latency suffers more from it than a rate.
"""

import resource
import time
from dataclasses import dataclass, field
from typing import Final

import psutil

from benchmarks.running.cores import ALL_CORES

#: The system's own work for fsync and the network counts as others' too, and stays well below this part of the machine.
GREATEST_SHARE: Final = 0.15


def _busy() -> float:
    """Return the seconds that all cores together have worked."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Guests' time is part of users' time already.
    counted_twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - counted_twice)


def _ours() -> float:
    """Return the seconds that this process and its ended descendants have worked."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


@dataclass(slots=True)
class Quiet:
    """Counts from before anything is started until all of it has ended."""

    _began: float = field(default_factory=time.monotonic)
    _busy: float = field(default_factory=_busy)
    _ours: float = field(default_factory=_ours)

    def others(self) -> float:
        """Return the cores that others have used, on average since the beginning."""
        seconds = time.monotonic() - self._began
        return max(0.0, (_busy() - self._busy) - (_ours() - self._ours)) / seconds if seconds else 0.0


def disturbance(others: float) -> str:
    """In words where it forbids claims, else nothing."""
    return f"other processes used {others:.2g} cores" if others > GREATEST_SHARE * len(ALL_CORES) else ""
