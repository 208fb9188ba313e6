"""The rule of the counters as a reader would write it down: what the statement on PostgreSQL is held to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from command_api.credentials.attempts.rule import AttemptLimits


@dataclass
class ModelCounter:
    """One counter; every method is one moment, as the row's lock makes it."""

    limits: AttemptLimits
    failures: list[datetime] = field(default_factory=list)
    #: Those before a success, which count only towards the most of a window.
    forgiven: list[datetime] = field(default_factory=list)
    refused_until: datetime | None = None

    def charge(self, now: datetime) -> bool:
        """Whether an attempt is let in; then it counts as a failure."""
        if self.refused_until is not None and now < self.refused_until:
            return False
        self.failures = [at for at in self.failures if at > now - self.limits.window] + [now]
        self.forgiven = [at for at in self.forgiven if at > now - self.limits.window]
        beyond = len(self.failures) - self.limits.failures
        self.refused_until = None
        if len(self.failures) + len(self.forgiven) >= self.limits.most:
            self.refused_until = now + self.limits.refusals[-1]
        elif beyond >= 0:
            refusal = min(self.limits.first_refusal, self.limits.longest_refusal)
            for _ in range(beyond):
                refusal = min(2 * refusal, self.limits.longest_refusal)
            self.refused_until = now + refusal
        return True

    def take_back(self, at: datetime) -> None:
        """The attempt of that moment was not looked at."""
        if not self._forget(at):
            return
        brought_it = self.refused_until is not None and self.refused_until - at in self.limits.refusals
        total = len(self.failures) + len(self.forgiven)
        if brought_it or (len(self.failures) < self.limits.failures and total < self.limits.most):
            self.refused_until = None

    def _forget(self, at: datetime) -> bool:
        known = [times for times in (self.failures, self.forgiven) if at in times]
        for times in known:
            times.remove(at)
        return bool(known)

    def inherit(self, old: ModelCounter) -> None:
        """A user who was known by the old counter's identifier has this one's from now on."""
        self.failures = sorted({*self.failures, *old.failures})
        self.forgiven = sorted({*self.forgiven, *old.forgiven})
        self.refused_until = max((at for at in (self.refused_until, old.refused_until) if at), default=None)

    def succeed(self, at: datetime) -> None:
        """The attempt of that moment succeeded: it was no failure, and those before it are forgiven."""
        self._forget(at)
        self.forgiven += self.failures
        self.failures = []
        self.refused_until = None
