"""The meaning of an error: "later", or something about the statement. Told by SQLSTATE, here alone, for every process.

Later: the server, the network or the pool failed, or others held what a statement needed. The same statement may
succeed in a moment. All other errors are about the statement: a bug, a value, a missing right.

Source: PostgreSQL's documentation, appendix A "PostgreSQL Error Codes".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import asyncpg

from chassis.lifecycle import Backoff
from chassis.postgres.pool import NoConnectionError

#: The connection, the session, the transaction, resources, an operator, the system; no such login or database now.
_LATER_CLASSES: Final = frozenset({"08", "28", "3D", "40", "53", "57", "58"})
#: Read-only, as after a failover; a session or transaction that idled or took too long; a lock that was not to be had.
_LATER: Final = frozenset({"25006", "25P03", "25P04", "55P03"})
#: A rollback whose completion is unknown: the one of its class that may not simply be tried again.
_COMPLETION_UNKNOWN: Final = "40003"

#: The network or the driver says these: PostgreSQL was not reached, or not heard in time.
UNHEARD: Final[tuple[type[Exception], ...]] = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
#: Why there is no connection; PostgreSQL can refuse a session with any error.
NO_CONNECTION: Final[tuple[type[Exception], ...]] = (NoConnectionError, asyncpg.PostgresError, *UNHEARD)

#: A transaction that the server gave up is begun again at least once, and for so long: others let go in milliseconds.
RETRY_SECONDS: Final = 1.0
_FIRST_PAUSE_SECONDS: Final = 0.01
_LONGEST_PAUSE_SECONDS: Final = 0.1

P = ParamSpec("P")
T = TypeVar("T")


class DatabaseUnavailableError(Exception):
    """The database cannot serve this request now: down, starting, out of connections, or not answering in time."""


class RolledBackError(DatabaseUnavailableError):
    """The server gave the transaction up, for a lock or for another transaction; nothing was written."""


def means_later(error: BaseException) -> bool:
    """Whether the statement that met this error may succeed later, unchanged."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state[:2] in _LATER_CLASSES or state in _LATER
    return isinstance(error, UNHEARD)


def was_rolled_back(error: BaseException) -> bool:
    """Whether the server says that it gave the transaction up for others, so that it may be begun again at once."""
    if not isinstance(error, asyncpg.PostgresError):
        return False
    state = error.sqlstate or ""
    return (state.startswith("40") and state != _COMPLETION_UNKNOWN) or state == "55P03"


def leaves_in_doubt(error: BaseException) -> bool:
    """Whether a session cannot be used again, whatever was raised for it: a statement was cancelled, or met "later".

    A statement may still run then; and the driver takes a BEGIN that was refused for one that was carried out.
    """
    cause: BaseException | None = error
    while cause is not None:
        if not isinstance(cause, Exception) or isinstance(cause, DatabaseUnavailableError) or means_later(cause):
            return True
        cause = cause.__cause__
    return False


def begun_again(transaction: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Run a transaction again while the server rolls it back for others, at least once and for RETRY_SECONDS.

    It raises RolledBackError after that.
    """

    @wraps(transaction)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        began = asyncio.get_running_loop().time()
        try:
            return await transaction(*args, **kwargs)
        except RolledBackError:
            backoff = Backoff(first=_FIRST_PAUSE_SECONDS, cap=_LONGEST_PAUSE_SECONDS)
        while True:
            await asyncio.sleep(backoff.next())
            try:
                return await transaction(*args, **kwargs)
            except RolledBackError:
                if asyncio.get_running_loop().time() - began > RETRY_SECONDS:
                    raise

    return run
