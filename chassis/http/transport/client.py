"""Whether anybody still waits for the answer to a request, for work that has not begun."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass(slots=True)
class Client:
    """Who sent a request; threads may ask, too."""

    #: False once the client has left, or the process ends and has no time for what has not begun.
    waits: bool = True


#: Who sent the request that this task works on; outside of one, somebody who always waits.
client: Final[ContextVar[Client]] = ContextVar("client", default=Client())  # noqa: B039 - nobody changes it
