"""How many answers to Idempotency-Keys are kept for one caller: counted in memory, in each process."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.access.guard import Access
from chassis.access.rates import RateLimit
from command_api.idempotency.replay import KeysUsedUpError


@dataclass(frozen=True, slots=True)
class KeyAllowance:
    """So many at once, and as many more, evenly, in a day."""

    #: Of commands that change nothing, which cost their sender nothing, and of all that a user's own token sends.
    unchanged: RateLimit
    changed: RateLimit

    def count(self, access: Access, *, changes: bool) -> None:
        """Count an answer that is about to be kept.

        Raises:
            KeysUsedUpError: it is one too many.
        """
        limit = self.changed if changes and not access.own_only else self.unchanged
        if seconds := limit.wait(access.caller.identity if access.caller else ""):
            raise KeysUsedUpError(seconds, changes=changes)
