"""A finding of `muster doctor`: what was checked, its result, and what to do where it is not ok."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CheckResult = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; whatever is not ok has a remedy."""

    check: str
    result: CheckResult
    found: str
    remedy: str = ""


def troubles_or_ok(check: str, troubles: Sequence[Finding], ok: str) -> list[Finding]:
    """Return the troubles; without any, one finding that the check is ok, with the text `ok`."""
    return list(troubles) or [Finding(check, "ok", ok)]
