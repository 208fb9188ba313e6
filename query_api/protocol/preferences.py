"""The Prefer header (RFC 7240): `wait=<seconds>` and `count=exact`; whatever else it says is ignored, as it demands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: How long a token is waited for when the client does not say, in seconds: many times a projection's usual delay.
DEFAULT_WAIT: Final = 1
#: No request waits longer, in seconds: proxies give up on silence after some tens.
LONGEST_WAIT: Final = 10


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the client prefers, of what we know."""

    #: Seconds, already cut to what we serve; None where the client did not say (or not readably).
    wait: int | None = None
    count_exact: bool = False

    @property
    def wait_seconds(self) -> int:
        """How long to wait for a token."""
        return DEFAULT_WAIT if self.wait is None else self.wait


NOTHING_PREFERRED: Final = Preferences()


def parse_preferences(header: str) -> Preferences:
    """Read the header; of a preference given twice the first counts (RFC 7240, section 2)."""
    found: dict[str, str] = {}
    for preference in header.split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = found.get("wait", "")
    return Preferences(
        wait=min(int(wait), LONGEST_WAIT) if wait.isascii() and wait.isdecimal() and len(wait) <= 18 else None,
        count_exact=found.get("count", "").lower() == "exact",
    )
