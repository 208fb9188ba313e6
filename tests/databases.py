"""Databases as an installation makes them: roles first, then the tables by their owner; each part under its role."""

import asyncio
from dataclasses import replace

from pydantic import SecretStr

from chassis.postgres.database import Connection, connect, disconnect
from chassis.postgres.roles import OWNER, DatabaseName, roles_of
from chassis.settings import PostgresAddress
from cli.migrate import give_rights
from cli.roles.arrangement import arrange
from cli.roles.scram import verifier
from command_api.migrate import migrate as migrate_command
from projectors.migrate import migrate as migrate_query

#: Of every role. Roles are of a whole server, and runs that share one may not change them for one another.
PASSWORD = "a password of every role of the tests"


def prepare_command(address: PostgresAddress) -> None:
    """Make the roles and tables of a command database; `address` is a superuser's."""
    _prepare("command", address)


def prepare_query(address: PostgresAddress) -> None:
    """Make the roles and tables of a query database; `address` is a superuser's."""
    _prepare("query", address)


def as_role(address: PostgresAddress, role: str) -> PostgresAddress:
    """The same database, as one of our roles."""
    return replace(address, user=role, password=SecretStr(PASSWORD))


async def make_roles(database: DatabaseName, address: PostgresAddress) -> None:
    """Make the roles of a database that has no tables yet; `address` is a superuser's."""
    connection: Connection = await connect(address, application="tests")
    try:
        await arrange(connection, database, dict.fromkeys(roles_of(database), verifier(PASSWORD)))
    finally:
        await disconnect(connection)


def _prepare(database: DatabaseName, address: PostgresAddress) -> None:
    asyncio.run(make_roles(database, address))
    owner = as_role(address, OWNER)
    (migrate_command if database == "command" else migrate_query)(owner)
    asyncio.run(give_rights(database, owner))
