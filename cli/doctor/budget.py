"""The connection budget: all connections that Muster may open on a PostgreSQL server, against what it accepts.

Where they do not fit, a pool cannot grow, which shows as slow answers under load long after the installation looked
healthy. So this check adds the limits up beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chassis.settings import PostgresAddress
from cli.doctor.findings import Finding
from cli.doctor.postgres import Server
from command_api.settings import CommandApiSettings
from projectors.settings import ProjectorSettings
from query_api.settings import QueryApiSettings

#: Beside its pool a worker of the command API has a notifier (outbox/notifier.py), and one connection at a time to
#: settle a commit whose reply was lost (command_api/users/lost_replies.py).
COMMAND_WORKER_EXTRA: Final = 2
#: Beside its pool a worker of the query API has a listener (chassis/postgres/listening.py).
QUERY_WORKER_EXTRA: Final = 1
#: A worker of the event API, which has as many as of the others: its pool (event_api/receipts/receipts.py), and a look.
EVENT_WORKER_CONNECTIONS: Final = 5
#: The relay that leads: lock, listener, work list, and two for maintenance; it has no pool.
LEADER_CONNECTIONS: Final = 5
#: A relay that stands by: the connection with which it asks for the lock.
STANDBY_CONNECTIONS: Final = 1
#: The console, in each database (console/settings.py); its rebuilds are an operator's.
CONSOLE_CONNECTIONS: Final = 6
#: Migrations, a rebuild, an operator's commands and psql, at the same time.
OPERATOR_CONNECTIONS: Final = 10

_REMEDY: Final = (
    "lower WORKERS, POSTGRES_POOL_SIZE or POSTGRES_MAX_OVERFLOW, or raise max_connections to {wanted} or more"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instances:
    """How many processes of each service run, on all machines together; the settings say their workers."""

    command_apis: int = 1
    query_apis: int = 1
    event_apis: int = 1
    relays: int = 1
    projectors: int = 1


def budget(
    command: CommandApiSettings,
    query: QueryApiSettings,
    projectors: ProjectorSettings,
    instances: Instances,
    servers: Mapping[str, Server],
) -> list[Finding]:
    """Return one finding for each server that was reached; two databases on one server share its connections."""
    command_worker = _pool(command.command_database) + COMMAND_WORKER_EXTRA
    query_worker = _pool(query.query_database) + QUERY_WORKER_EXTRA
    uses = {
        "command": [
            ("command API", instances.command_apis * command.workers * command_worker),
            ("relay", LEADER_CONNECTIONS + (instances.relays - 1) * STANDBY_CONNECTIONS),
            ("console (command database)", CONSOLE_CONNECTIONS),
        ],
        "query": [
            ("query API", instances.query_apis * query.workers * query_worker),
            ("event API", instances.event_apis * query.workers * EVENT_WORKER_CONNECTIONS),
            ("projectors", instances.projectors * _pool(projectors.query_database)),
            ("console (query database)", CONSOLE_CONNECTIONS),
        ],
    }
    reached = [name for name in uses if name in servers]
    if len(reached) == len(uses) and servers["command"].is_same_as(servers["query"]):
        server = min(servers.values(), key=lambda each: each.connections)
        return [_compare("connections", server, uses["command"] + uses["query"])]
    return [_compare(f"{name} connections", servers[name], uses[name]) for name in reached]


def _compare(check: str, server: Server, uses: list[tuple[str, int]]) -> Finding:
    parts = [*uses, ("operators", OPERATOR_CONNECTIONS)]
    wanted = sum(number for _, number in parts)
    sums = " + ".join(f"{who} {number}" for who, number in parts)
    found = f"{sums} = {wanted} of the {server.connections} that this role may open"
    if wanted > server.connections:
        return Finding(check, "failed", found, _REMEDY.format(wanted=wanted + server.reserved))
    return Finding(check, "ok", found)


def _pool(address: PostgresAddress) -> int:
    return address.pool_size + address.max_overflow
