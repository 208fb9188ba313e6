"""The checks of one database: version, rights, durability, log, clock, migrations."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from chassis.postgres.database import NO_CONNECTION, connect, describe, disconnect
from chassis.postgres.migrations import current_and_head
from chassis.settings import PostgresAddress
from cli.doctor.findings import CheckResult, Finding, troubles_or_ok
from command_api import migrate as command_migrate
from projectors import migrate as query_migrate

#: Clocks further apart than this make event times and As-Of confusing.
CLOCK_WARNING_SECONDS: Final = 1.0
CLOCK_FAILURE_SECONDS: Final = 30.0
_MIGRATIONS: Final = {"command": command_migrate.MIGRATIONS, "query": query_migrate.LOCATION}
#: Version of PostgreSQL from which everything used here exists.
POSTGRES_VERSION: Final = 160000

#: One row with everything that the checks read. A role's or database's own connection limit counts where it is lower;
#: -1 means none. Connections reserved for superusers do not count, unless the API's role ($1) is one.
_SERVER_STATE: Final = """
SELECT
    current_setting('server_version') AS version,
    current_setting('server_version_num')::int AS version_number,
    current_setting('server_encoding') AS encoding,
    pg_is_in_recovery() AS standby,
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('synchronous_standby_names') AS synchronous_standbys,
    current_setting('log_error_verbosity') AS verbosity,
    pg_postmaster_start_time() AS started,
    current_setting('port') AS port,
    current_setting('max_connections')::int AS max_connections,
    current_setting('superuser_reserved_connections')::int
        + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
    coalesce(role.rolsuper, false) AS superuser,
    coalesce(role.rolconnlimit, -1) AS role_limit,
    base.datconnlimit AS database_limit,
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create
FROM pg_database AS base LEFT JOIN pg_roles AS role ON role.rolname = $1
WHERE base.datname = current_database()
"""


@dataclass(frozen=True, slots=True)
class Server:
    """One running server, and how many connections the API's role may have there."""

    started: datetime
    port: str
    connections: int
    reserved: int

    def is_same_as(self, other: Server) -> bool:
        """Tell whether both are one process: two never start in the same microsecond on the same port."""
        return (self.started, self.port) == (other.started, other.port)


async def examine_database(name: str, address: PostgresAddress, user: str, servers: dict[str, Server]) -> list[Finding]:
    """Check the command or the query database; put its server into `servers` under `name` where it was reached.

    The operator connects by `address`; `user` is the API's, whose limit of connections counts.
    """
    try:
        connection = await connect(address, application="muster doctor")
    except NO_CONNECTION as error:
        remedy = "start PostgreSQL there, create the database, or correct the POSTGRES settings"
        return [Finding(f"{name} database", "failed", f"{address}: {describe(error)}", remedy)]
    try:
        row = await connection.fetchrow(_SERVER_STATE, user)
        assert row is not None
        servers[name] = _server(row)
        return [
            *_identity(name, address, row),
            *_durability(name, row),
            *([_log(row["verbosity"])] if name == "command" else []),
            await _clock(name, connection),
            await asyncio.to_thread(_migrations, name, address),
        ]
    except NO_CONNECTION as error:
        return [Finding(f"{name} database", "failed", f"{address}: {describe(error)}", "see PostgreSQL's log")]
    finally:
        await disconnect(connection)


def _server(row: asyncpg.Record) -> Server:
    reserved = 0 if row["superuser"] else row["reserved"]
    limits = [row["max_connections"] - reserved, row["role_limit"], row["database_limit"]]
    return Server(row["started"], row["port"], min(limit for limit in limits if limit >= 0), reserved)


def _identity(name: str, address: PostgresAddress, row: asyncpg.Record) -> list[Finding]:
    check = f"{name} database"
    troubles = []
    if row["version_number"] < POSTGRES_VERSION:
        troubles.append(Finding(check, "failed", f"PostgreSQL {row['version']}", "run PostgreSQL 16 or newer"))
    if row["encoding"] != "UTF8":
        remedy = "create the database anew with ENCODING 'UTF8': names in other scripts cannot be stored"
        troubles.append(Finding(check, "failed", f"its encoding is {row['encoding']}", remedy))
    if row["standby"]:
        remedy = f"point the {name.upper()}_POSTGRES settings of whatever writes at the primary"
        troubles.append(Finding(check, "failed", f"{address} is a standby and takes no writes", remedy))
    if name == "query" and not row["may_create"]:
        remedy = f'GRANT CREATE ON SCHEMA public TO "{address.user}": a rebuild makes tables of its own'
        troubles.append(Finding(check, "failed", f"{address.user} may not create tables", remedy))
    return troubles_or_ok(check, troubles, f"{address}, PostgreSQL {row['version']}")


def _durability(name: str, row: asyncpg.Record) -> list[Finding]:
    check = f"{name} durability"
    remedy = "set {}=on in postgresql.conf: a crash loses or corrupts what was committed"
    troubles = [
        Finding(check, "failed", f"{setting} is off", remedy.format(setting))
        for setting in ("fsync", "full_page_writes")
        if row[setting] == "off"
    ]
    # Every session of ours sets it to on; a server or role may override that.
    commit = row["synchronous_commit"]
    if commit not in ("on", "remote_apply"):
        remedy = "let sessions set it: events of commits that a crash loses would be published already"
        troubles.append(Finding(check, "failed", f"synchronous_commit is {commit} although we ask for on", remedy))
    standbys = row["synchronous_standbys"] or "none"
    found = f"fsync, full_page_writes and synchronous_commit are on; synchronous standbys: {standbys}"
    return troubles_or_ok(check, troubles, found)


def _log(verbosity: str) -> Finding:
    """Check that the log names nobody, because a violated constraint's detail is a person's address."""
    check, found = "command log", f"log_error_verbosity is {verbosity}"
    if verbosity == "terse":
        return Finding(check, "ok", found)
    remedy = (
        "set log_error_verbosity=terse in postgresql.conf: the log names who is registered, and outlives an erasure"
    )
    return Finding(check, "warning", found, remedy)


async def _clock(name: str, connection: asyncpg.Connection[Any]) -> Finding:
    before = time.time()
    there: datetime = await connection.fetchval("SELECT clock_timestamp()")
    here = datetime.fromtimestamp((before + time.time()) / 2, UTC)
    return judge_clock(f"{name} clock", abs((there - here).total_seconds()))


def judge_clock(check: str, apart: float) -> Finding:
    """Return the finding for clocks that differ by `apart` seconds."""
    result: CheckResult = (
        "ok" if apart < CLOCK_WARNING_SECONDS else "warning" if apart < CLOCK_FAILURE_SECONDS else "failed"
    )
    remedy = "" if result == "ok" else "synchronise this machine's clock and the server's with NTP"
    return Finding(check, result, f"{apart:.3f} s apart", remedy)


def _migrations(name: str, address: PostgresAddress) -> Finding:
    check = f"{name} migrations"
    current, head = current_and_head(_MIGRATIONS[name], address)
    if current != head:
        found = f"at {current or 'nothing'}, this version needs {head}"
        return Finding(check, "failed", found, f"`muster migrate {name}`")
    return Finding(check, "ok", f"at {head}")
