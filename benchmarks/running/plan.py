"""The plan of one run: how often, how long, how large, and where it may write."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: A median with a range needs five rounds; fewer are shown and nothing is claimed of them.
ROUNDS: Final = 5
#: One probe of one round: long enough for some hundred answers of the slowest subject, short enough that five rounds of
#: ten probes take two minutes.
SECONDS: Final = 2.0
#: The size at which it shows where a design reads the rows that it skips.
USERS: Final = 1_000_000

#: A quick run only shows that everything works.
QUICK_ROUNDS: Final = 1
QUICK_SECONDS: Final = 0.3
QUICK_USERS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How to measure; the same for every benchmark of a run.

    `seconds` is the length of one probe. `folder` is scratch, removed afterwards, within reach of PostgreSQL's user.
    `say` tells a line of progress. `profiles` is the folder for flame graphs in a profile run, else None.
    """

    rounds: int
    seconds: float
    users: int
    quick: bool
    folder: Path
    say: Callable[[str], None]
    profiles: Path | None = None
