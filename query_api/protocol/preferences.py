"""The Prefer header (RFC 7240): `wait=<seconds>` and `count=exact`; others are ignored, as it demands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: How long a request waits for its tokens by default, in seconds: many times a projection's usual delay.
DEFAULT_WAIT: Final = 1
#: The longest that a request may wait, in seconds: proxies give up on silence after some tens.
LONGEST_WAIT: Final = 10


@dataclass(frozen=True, slots=True)
class Preferences:
    """The known preferences of a client."""

    #: Seconds, cut to LONGEST_WAIT; None if the client sent none, or none that can be read.
    wait: int | None = None
    count_exact: bool = False

    @property
    def wait_seconds(self) -> int:
        """How long to wait for the tokens."""
        return DEFAULT_WAIT if self.wait is None else self.wait


NOTHING_PREFERRED: Final = Preferences()


def parse_preferences(header: str) -> Preferences:
    """Read the header; if a preference is given twice, the first one counts (RFC 7240, section 2)."""
    found: dict[str, str] = {}
    for preference in header.split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = found.get("wait", "")
    return Preferences(
        wait=min(int(wait), LONGEST_WAIT) if wait.isascii() and wait.isdecimal() and len(wait) <= 18 else None,
        count_exact=found.get("count", "").lower() == "exact",
    )
