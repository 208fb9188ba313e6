"""The context of a command beside its body: cause, sender, the version it is meant for, the key of its retries.

command_api/http/headers.py reads them from the request's headers.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from chassis.access.caller import Caller
from chassis.access.guard import Access
from command_api.idempotency.keys import IdempotencyKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why an event happened: the command (causation), the request (correlation), the caller, and the caller's trace."""

    command_id: str
    correlation_id: str
    #: The caller; None where access is switched off.
    caller: Caller | None = None
    traceparent: str | None = None

    def actor(self, subject_id: UUID | None = None) -> str | None:
        """The actor, as an event about `subject_id` says it."""
        return None if self.caller is None else self.caller.actor(subject_id)

    @property
    def on_behalf_of(self) -> str | None:
        """The one for whom the caller acts, where that is somebody else."""
        return None if self.caller is None else self.caller.on_behalf_of


@dataclass(frozen=True, slots=True)
class Precondition:
    """The versions to which the client would have its command applied; None stands for any."""

    versions: frozenset[int] | None

    def holds(self, version: int) -> bool:
        """Whether this version is one of them."""
        return self.versions is None or version in self.versions


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandContext:
    """Everything that came with one command."""

    cause: Cause
    #: The sender, and what they were let in as.
    access: Access
    precondition: Precondition | None = None
    key: IdempotencyKey | None = None
