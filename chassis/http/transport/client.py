"""Who sent a request: whether all of it has come, and whether anybody still waits for the answer."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass(slots=True)
class Client:
    """Who sent a request; threads may ask, too."""

    #: False once the client has left, or the process ends and has no time for what has not begun.
    waits: bool = True
    #: The request has come whole: it has no body, or all of it is here.
    has_sent_all: bool = True


#: Who sent the request that this task works on; outside of one, somebody who sent all and always waits.
client: Final[ContextVar[Client]] = ContextVar("client", default=Client())  # noqa: B039 - nobody changes it
