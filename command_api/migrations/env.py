"""Alembic's environment of the command database (section [command] of alembic.ini)."""

from chassis.postgres.migrations import run_environment
from chassis.settings import OwnerCommandPostgres, PostgresAddress, load
from command_api.schema import command_metadata


def _address() -> PostgresAddress:
    return load(OwnerCommandPostgres).command_database


run_environment(command_metadata(), _address)
