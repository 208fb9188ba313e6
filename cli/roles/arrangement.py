"""Makes a database's roles, memberships, owners and rights as the table of grants says. Harmless to repeat.

Each database is one transaction, so a service that runs meanwhile never misses a right. Rights that the table does not
name are taken from our roles, except those that are leaving; those of other roles are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from chassis.postgres.database import Connection
from chassis.postgres.roles import OWNER, PROJECTORS, ROLES, DatabaseName, roles_of
from cli.roles.grants import CREATORS, FUNCTIONS, GENERATIONS, LEAVING, MEMBERS, READERS_OF_GENERATIONS, TABLES

#: Two that arrange one database take turns; any number that nothing else locks.
_TURN: Final = "SELECT pg_advisory_xact_lock(7461902114)"
#: A new owner needs the table for an instant; whoever queues behind waits no longer than this.
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '3s'"

#: A lock is of one database and roles are of the server: who arranges another database may be faster; then again.
_FASTER: Final = (asyncpg.UniqueViolationError, asyncpg.DuplicateObjectError, asyncpg.InternalServerError)
#: Each try waits for a faster one to end, and there are two databases.
_TRIES: Final = 5

_ATTRIBUTES: Final = "LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
_THERE: Final = """
SELECT rolname AS name, NOT rolcanlogin OR NOT rolinherit
    OR rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls AS deviates
FROM pg_roles WHERE rolname = ANY($1)
"""
_MEMBERSHIPS: Final = """
SELECT member.rolname AS member, of.rolname AS of FROM pg_auth_members
JOIN pg_roles AS member ON member.oid = pg_auth_members.member JOIN pg_roles AS of ON of.oid = roleid
WHERE member.rolname = ANY($1)
"""
_OWNED: Final = """
SELECT relname AS name, quote_ident(relname) AS quoted, pg_get_userbyid(relowner) AS owner,
    relname ~ $2 AS is_generation
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
    AND (relname = ANY($1) OR relname ~ $2)
"""
#: The sequences of our tables' columns have the tables' owners.
_SEQUENCES: Final = """
SELECT oid::regclass::text AS name, pg_get_userbyid(relowner) AS owner FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'S' AND pg_get_userbyid(relowner) = ANY($1)
"""
_FUNCTIONS: Final = """
SELECT name, pg_get_userbyid(proowner) AS owner FROM unnest($1::text[]) AS name JOIN pg_proc
ON pg_proc.oid = to_regprocedure('public.' || name)
"""
_IS_SUPERUSER: Final = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
_IS_ARRANGED: Final = """
SELECT to_regrole($1) IS NOT NULL AND has_schema_privilege(to_regrole($1), 'public', 'CREATE')
"""


class ForeignRightsError(Exception):
    """One of our roles is a member of another role, and only a person knows why; the message names both."""


@dataclass(frozen=True, slots=True)
class RoleReport:
    """What was changed for one role."""

    database: DatabaseName
    role: str
    created: bool
    password_set: bool


async def arrange(connection: Connection, database: DatabaseName, verifiers: Mapping[str, str]) -> list[RoleReport]:
    """Make or mend the database's roles, its owners and its rights; `verifiers` has the passwords to set.

    Raises:
        ForeignRightsError: a role is a member of another one, which gives it more.
        asyncpg.PostgresError: the connection's user may not do it.
    """
    for _ in range(_TRIES - 1):
        with suppress(*_FASTER):
            return await _arrange(connection, database, verifiers)
    return await _arrange(connection, database, verifiers)


async def _arrange(connection: Connection, database: DatabaseName, verifiers: Mapping[str, str]) -> list[RoleReport]:
    async with connection.transaction():
        await connection.execute(_TURN)
        await connection.execute(_LOCK_TIMEOUT)
        reports = await _make_roles(connection, database, verifiers)
        await _open_database(connection, database)
        await _arrange_all(connection, database)
    return reports


async def arrange_tables(connection: Connection, database: DatabaseName) -> bool:
    """Set owners and rights after a migration; return False where `muster roles` has never run."""
    async with connection.transaction():
        if not await connection.fetchval(_IS_ARRANGED, OWNER):
            return False
        await connection.execute(_TURN)
        await connection.execute(_LOCK_TIMEOUT)
        await _arrange_all(connection, database)
    return True


async def _make_roles(connection: Connection, database: DatabaseName, verifiers: Mapping[str, str]) -> list[RoleReport]:
    roles = roles_of(database)
    there = {row["name"]: row["deviates"] for row in await connection.fetch(_THERE, roles)}
    for role in roles:
        if role not in there:
            await connection.execute(f"CREATE ROLE {role} {_ATTRIBUTES}")
        elif there[role]:
            await connection.execute(f"ALTER ROLE {role} {_ATTRIBUTES}")
        if role in verifiers:
            # No parameter can stand here; a verifier has no quote.
            await connection.execute(f"ALTER ROLE {role} PASSWORD '{verifiers[role]}'")
    await _make_members(connection, roles)
    return [RoleReport(database, role, role not in there, role in verifiers) for role in roles]


async def _make_members(connection: Connection, roles: list[str]) -> None:
    for row in await connection.fetch(_MEMBERSHIPS, roles):
        if row["member"] not in MEMBERS.get(row["of"], ()):
            raise ForeignRightsError(
                f"{row['member']} is a member of {row['of']}, which gives it more than its work needs:"
                f" REVOKE {row['of']} FROM {row['member']}"
            )
    for of, members in MEMBERS.items():
        if of in roles:
            await connection.execute(f"GRANT {of} TO {', '.join(members)} WITH INHERIT TRUE, SET TRUE")
    # A superuser may do everything; whoever else makes roles has to be one of the owners to hand tables over to them.
    is_one_of_ours = await connection.fetchval("SELECT current_user = ANY($1)", list(ROLES))
    if not is_one_of_ours and not await connection.fetchval(_IS_SUPERUSER):
        owners = [role for role in (OWNER, PROJECTORS) if role in roles]
        await connection.execute(f"GRANT {', '.join(owners)} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE")


async def _open_database(connection: Connection, database: DatabaseName) -> None:
    """Let only our roles and the owner connect."""
    roles = ", ".join(roles_of(database))
    name = await connection.fetchval("SELECT quote_ident(current_database())")
    for statement in (
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC, {roles}",
        f"GRANT CONNECT ON DATABASE {name} TO {roles}",
        f"REVOKE CREATE ON SCHEMA public FROM PUBLIC, {roles}",
        f"GRANT USAGE ON SCHEMA public TO {roles}",
        f"GRANT CREATE ON SCHEMA public TO {', '.join(CREATORS[database])}",
    ):
        await connection.execute(statement)
    if await connection.fetchval(_IS_SUPERUSER):
        # Otherwise whoever connects may write: large objects belong to no table. Nobody else can take this.
        await connection.execute(
            "REVOKE EXECUTE ON FUNCTION lo_create(oid), lo_creat(integer), lo_from_bytea(oid, bytea) FROM PUBLIC"
        )
    if database == "query":
        await connection.execute(
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {PROJECTORS} IN SCHEMA public"
            f" GRANT SELECT ON TABLES TO {', '.join(READERS_OF_GENERATIONS)}"
        )


async def _arrange_all(connection: Connection, database: DatabaseName) -> None:
    await _arrange_tables(connection, database)
    await _arrange_sequences(connection, database)
    await _arrange_functions(connection, database)


async def _arrange_tables(connection: Connection, database: DatabaseName) -> None:
    generations = GENERATIONS if database == "query" else "^$"
    for table in await connection.fetch(_OWNED, list(TABLES[database]), generations):
        owner = PROJECTORS if table["is_generation"] else OWNER
        if table["owner"] != owner:
            await connection.execute(f"ALTER TABLE public.{table['quoted']} OWNER TO {owner}")
        kept = await _kept(connection, LEAVING[database].get(table["name"], {}), table["quoted"])
        for statement in _grants(database, table, owner, kept):
            await connection.execute(statement)


async def _kept(connection: Connection, leaving: Mapping[str, str], quoted: str) -> list[tuple[str, str]]:
    """The leaving rights on a table that roles still have, by role."""
    has = f"SELECT has_table_privilege($1, 'public.{quoted}', 'DELETE')"
    return [(role, rights) for role, rights in leaving.items() if await connection.fetchval(has, role)]


def _grants(database: DatabaseName, table: Any, owner: str, kept: list[tuple[str, str]]) -> list[str]:
    granted = (
        dict.fromkeys(READERS_OF_GENERATIONS, "SELECT") if table["is_generation"] else TABLES[database][table["name"]]
    )
    return [
        f"REVOKE ALL ON public.{table['quoted']} FROM PUBLIC, {_all_but(owner, database)}",
        *(
            f"GRANT {privileges} ON public.{table['quoted']} TO {role}"
            for role, privileges in [*granted.items(), *kept]
        ),
    ]


async def _arrange_sequences(connection: Connection, database: DatabaseName) -> None:
    """Give no rights to sequences: an INSERT needs none, and a right would let a role set the sequence back."""
    for sequence in await connection.fetch(_SEQUENCES, [OWNER, PROJECTORS]):
        others = _all_but(sequence["owner"], database)
        await connection.execute(f"REVOKE ALL ON SEQUENCE {sequence['name']} FROM PUBLIC, {others}")


async def _arrange_functions(connection: Connection, database: DatabaseName) -> None:
    callers = FUNCTIONS[database]
    for function in await connection.fetch(_FUNCTIONS, list(callers)):
        name = f"public.{function['name']}"
        if function["owner"] != OWNER:
            await connection.execute(f"ALTER FUNCTION {name} OWNER TO {OWNER}")
        await connection.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC, {_all_but(OWNER, database)}")
        await connection.execute(f"GRANT EXECUTE ON FUNCTION {name} TO {', '.join(callers[function['name']])}")


def _all_but(owner: str, database: DatabaseName) -> str:
    return ", ".join(role for role in roles_of(database) if role != owner)
