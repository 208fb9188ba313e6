"""The rule of the counters as a reader would write it down: what the statement on PostgreSQL is held to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from command_api.credentials.attempts import AttemptLimits


@dataclass
class ModelCounter:
    """One counter; every method is one moment, as the row's lock makes it."""

    limits: AttemptLimits
    failures: list[datetime] = field(default_factory=list)
    refused_until: datetime | None = None

    def charge(self, now: datetime) -> bool:
        """Whether an attempt is let in; then it counts as a failure."""
        if self.refused_until is not None and now < self.refused_until:
            return False
        self.failures = [at for at in self.failures if at > now - self.limits.window] + [now]
        beyond = len(self.failures) - self.limits.failures
        self.refused_until = None
        if beyond >= 0:
            refusal = min(self.limits.first_refusal, self.limits.longest_refusal)
            for _ in range(beyond):
                refusal = min(2 * refusal, self.limits.longest_refusal)
            self.refused_until = now + refusal
        return True

    def take_back(self, at: datetime) -> None:
        """The attempt of that moment was not looked at."""
        if at not in self.failures:
            return
        self.failures.remove(at)
        brought_it = self.refused_until is not None and self.refused_until - at in self.limits.refusals
        if brought_it or len(self.failures) < self.limits.failures:
            self.refused_until = None

    def inherit(self, old: ModelCounter) -> None:
        """A user who was known by the old counter's identifier has this one's from now on."""
        self.failures = sorted({*self.failures, *old.failures})
        self.refused_until = max((at for at in (self.refused_until, old.refused_until) if at), default=None)

    def end(self) -> None:
        """An attempt succeeded."""
        self.failures = []
        self.refused_until = None
