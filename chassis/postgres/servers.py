"""Connects to that server of a database which is what a process needs: after a failover it is another.

The driver tries servers in turn within one time limit, and one that is frozen, or whose network drops packets, eats it
all. Here each gets a head start before the next is tried beside it, and the one that served last is tried first: so a
frozen server costs one connection HEAD_START_SECONDS, and no other anything.

Guarantee: where one server is what is asked for and answers at once, it is found within HEAD_START_SECONDS for each
server before it, and within PREFERENCE_SECONDS more where a standby was preferred and none is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import asyncpg

from chassis.postgres.errors import NO_CONNECTION
from chassis.postgres.pool import Connection
from chassis.postgres_address.hosts import Host
from chassis.settings import PostgresAddress

#: Opens a connection to one server, which must be what the text says.
Open = Callable[[Host, str], Coroutine[Any, Any, Connection]]

#: A server at work opens a connection in milliseconds, on a busy machine in tens; a pool waits for two seconds.
HEAD_START_SECONDS: Final = 0.25
#: A standby is looked for so long where one is preferred, and none is looked for as long after that was in vain.
PREFERENCE_SECONDS: Final = 0.75
PREFERENCE_RETRY_SECONDS: Final = 10.0

#: The servers there are, and what they must be.
_Wanted = tuple[tuple[Host, ...], str]
#: The server of this process last, and the loop's time before which no standby is looked for again.
_last: dict[_Wanted, Host] = {}
_no_standby_until: dict[_Wanted, float] = {}


async def open_on_any(address: PostgresAddress, open_one: Open) -> Connection:
    """Open a connection to one of the address's servers.

    Raises:
        Exception: whatever `open_one` raised; of several servers, what says most.
    """
    wanted = tuple(address.hosts), address.session_attributes
    opening = _open_preferred(wanted, open_one) if wanted[1] == "prefer-standby" else _open(*wanted, open_one)
    _last[wanted], connection = await opening
    return connection


def served_last(address: PostgresAddress) -> Host:
    """The server to which this process connected last, or the first one."""
    hosts = tuple(address.hosts)
    return _last.get((hosts, address.session_attributes), hosts[0])


async def _open_preferred(wanted: _Wanted, open_one: Open) -> tuple[Host, Connection]:
    hosts, _ = wanted
    now = asyncio.get_running_loop().time()
    if len(hosts) > 1 and _no_standby_until.get(wanted, now) <= now:
        try:
            async with asyncio.timeout(PREFERENCE_SECONDS):
                return await _open(hosts, "standby", open_one)
        except NO_CONNECTION:
            # No standby answers; if the primary does not either, that is what is told.
            _no_standby_until[wanted] = now + PREFERENCE_RETRY_SECONDS
    return await _open(hosts, "any", open_one)


async def _open(hosts: tuple[Host, ...], attributes: str, open_one: Open) -> tuple[Host, Connection]:
    if len(hosts) == 1:
        return hosts[0], await open_one(hosts[0], attributes)
    last = _last.get((hosts, attributes), hosts[0])
    host, connection = await _race([last, *(host for host in hosts if host != last)], attributes, open_one)
    _last[hosts, attributes] = host
    return host, connection


async def _race(hosts: Sequence[Host], attributes: str, open_one: Open) -> tuple[Host, Connection]:
    waiting = list(hosts)
    trying: dict[asyncio.Task[Connection], Host] = {}
    errors: list[BaseException] = []
    try:
        while waiting or trying:
            if waiting:
                host = waiting.pop(0)
                trying[asyncio.create_task(open_one(host, attributes))] = host
            head_start = HEAD_START_SECONDS if waiting else None
            done, _ = await asyncio.wait(trying, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                host = trying.pop(task)
                error = task.exception()
                if error is None:
                    return host, task.result()
                errors.append(error)
    finally:
        await _give_up(trying)
    raise max(errors, key=_says)


async def _give_up(trying: dict[asyncio.Task[Connection], Host]) -> None:
    """End what is tried still; a connection that was opened in this very moment is not needed."""
    for task in trying:
        task.cancel()
    for opened in await asyncio.gather(*trying, return_exceptions=True):
        if not isinstance(opened, BaseException):
            opened.terminate()


def _says(error: BaseException) -> int:
    """The weight of an error: of a server that refused for a reason, of one that was not reached, of another kind."""
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return 0
    return 2 if isinstance(error, asyncpg.PostgresError) else 1
