"""Rate limits by caller and class of request: a bucket that refills evenly (GCRA), in memory, one a process.

A limit of `10/min` lets ten through at once and then one every six seconds. It costs a look-up and an addition. When it
knows too many callers, it forgets those that have nothing to wait for. Clients are told by `RateLimit-Policy` and
`RateLimit` of draft-ietf-httpapi-ratelimit-headers (08 and later).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter

from chassis.access.caller import Caller
from chassis.access.rules import Rule
from chassis.http.problems import Problem, ProblemType

TOO_MANY_REQUESTS: Final = ProblemType(
    "too-many-requests",
    429,
    "You have sent too many requests of this kind",
    "Each caller may send a number of such requests in a time, and more came. Nothing was done.",
    "Send the same request again after the seconds in Retry-After; RateLimit-Policy tells the limit.",
)
REFUSED: Final = Counter("muster_rate_limited_total", "Requests refused by a rate limit.", ["limit"])
#: Callers whose state is kept by one limit; each takes about 200 bytes.
MOST_CALLERS: Final = 100_000
#: Sums of seconds are off by less.
_ROUNDING: Final = 1e-9
_OFF: Final = "off"
_RATE: Final = re.compile(r"(?P<number>[1-9]\d{0,6})/(?P<unit>s|min)")
_SECONDS: Final = {"s": 1, "min": 60}


@dataclass(frozen=True, slots=True)
class Rate:
    """A number of requests in a window of seconds."""

    requests: int
    window_seconds: int

    @classmethod
    def parse(cls, text: str) -> Rate | None:
        """Read `N/s`, `N/min` or `off`, which is None.

        Raises:
            ValueError: it is none of them.
        """
        if text == _OFF:
            return None
        found = _RATE.fullmatch(text)
        if found is None:
            raise ValueError("must be a number of requests a second or a minute, such as 50/s or 10/min, or off")
        return cls(int(found["number"]), _SECONDS[found["unit"]])


def rate_text(text: str) -> str:
    """Return a setting's value unchanged, if it is a rate.

    Raises:
        ValueError: it is none.
    """
    Rate.parse(text)
    return text


class RateLimits:
    """The limits of one process, by class; a class without one is not limited."""

    def __init__(self, rates: Mapping[str, str]) -> None:
        """`rates` maps each class to a rate, as `Rate.parse` reads it."""
        parsed = {name: Rate.parse(text) for name, text in rates.items()}
        self._limits = {name: RateLimit(name, rate) for name, rate in parsed.items() if rate}

    def take(self, rule: Rule, caller: Caller | None, address: str, *, own_only: bool) -> None:
        """Count one request; callers without a token are told apart by address.

        Raises:
            Problem: 429, the caller has to wait.
        """
        for name in (rule.limit, rule.own_limit if own_only else None):
            limit = self._limits.get(name) if name else None
            if limit:
                limit.take(address if caller is None else caller.identity)


class RateLimit:
    """One class of requests, limited for each caller by itself."""

    def __init__(self, name: str, rate: Rate, *, now: Callable[[], float] = time.monotonic) -> None:
        """`name` is what the fields, the metric and the refusal call it."""
        self._name = name
        self._rate = rate
        self._interval = rate.window_seconds / rate.requests
        self._now = now
        #: By caller: when all that it has sent would have come, had it sent one an interval.
        self._due: dict[str, float] = {}
        self._refused = REFUSED.labels(name)
        self._policy = f'"{name}";q={rate.requests};w={rate.window_seconds}'

    def take(self, caller: str) -> None:
        """Count one request of the caller's.

        Raises:
            Problem: 429, it has to wait.
        """
        if seconds := self.wait(caller):
            raise self._too_many(seconds)

    def wait(self, caller: str) -> int:
        """Count one request and return 0; else return the seconds until the next one may come."""
        now = self._now()
        due = max(self._due.get(caller, now), now) + self._interval
        beyond = due - now - self._rate.window_seconds
        if beyond > _ROUNDING:
            self._refused.inc()
            return max(1, math.ceil(beyond))
        if caller not in self._due and len(self._due) >= MOST_CALLERS:
            self._forget(now)
        self._due[caller] = due
        return 0

    def _forget(self, now: float) -> None:
        """Forget callers that have nothing to wait for; if that frees little, forget all, so that room never limits."""
        self._due = {caller: due for caller, due in self._due.items() if due > now}
        if len(self._due) > MOST_CALLERS // 2:
            self._due.clear()

    def _too_many(self, seconds: int) -> Problem:
        headers = {
            "Retry-After": str(seconds),
            "RateLimit-Policy": self._policy,
            "RateLimit": f'"{self._name}";r=0;t={seconds}',
        }
        unit = "second" if self._rate.window_seconds == 1 else f"{self._rate.window_seconds} seconds"
        return Problem(
            TOO_MANY_REQUESTS,
            f"a caller may send {self._rate.requests} such requests ({self._name}) in {unit}",
            headers=headers,
        )
