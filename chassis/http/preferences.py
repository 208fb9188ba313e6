"""The Prefer header (RFC 7240): `wait=<seconds>` and `count=exact`; others are ignored, as it demands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: A request waits so many seconds for its tokens by default: many times a projection's usual delay.
DEFAULT_WAIT: Final = 1
#: The longest that a request may wait, in seconds: proxies give up on silence after some tens.
LONGEST_WAIT: Final = 10
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
#: Whether every quoted string ends.
_HEADER: Final = re.compile(rf'(?:[^"]|{_QUOTED})*')
_ITEMS: Final = re.compile(rf'(?:[^",]|{_QUOTED})+')
_PREFERENCE: Final = re.compile(rf'\s*([^\s=;"]+)\s*(?:=\s*+({_QUOTED}|[^\s;"]*)\s*)?(?:;.*)?')


@dataclass(frozen=True, slots=True)
class Preferences:
    """The known preferences of a client."""

    #: Seconds, cut to the longest; None if the client sent none, or none that can be read.
    wait: int | None = None
    count_exact: bool = False

    @property
    def wait_seconds(self) -> int:
        """Seconds to wait for the tokens."""
        return DEFAULT_WAIT if self.wait is None else self.wait


NOTHING_PREFERRED: Final = Preferences()


def parse_preferences(header: str, *, longest: int = LONGEST_WAIT) -> Preferences:
    """Read the header, with a wait of `longest` at most; of a preference given twice the first counts (RFC 7240).

    What is malformed is ignored: the whole header where a quoted string does not end, else the one preference.
    """
    found: dict[str, str] = {}
    for item in _ITEMS.findall(header) if _HEADER.fullmatch(header) else ():
        if preference := _PREFERENCE.fullmatch(item):
            name, value = preference.groups(default="")
            found.setdefault(name.lower(), value.strip('"'))
    wait = found.get("wait", "")
    return Preferences(
        wait=min(int(wait), longest) if wait.isascii() and wait.isdecimal() and len(wait) <= 18 else None,
        count_exact=found.get("count", "").lower() == "exact",
    )
