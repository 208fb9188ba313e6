"""What `muster doctor` finds: one thing that was looked at, how it is, and what to do where it is not right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Result = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; whatever is not ok has a remedy."""

    check: str
    result: Result
    found: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """For --json."""
        return asdict(self)


def judge(check: str, troubles: Sequence[Finding], otherwise: str) -> list[Finding]:
    """The troubles, or that there are none."""
    return list(troubles) or [Finding(check, "ok", otherwise)]
