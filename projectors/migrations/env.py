"""Alembic's environment of the query database (section [query] of alembic.ini)."""
# ruff: noqa: INP001 - Alembic runs this file, nobody imports it

from chassis.postgres.migrations import run_environment
from chassis.settings import OwnerQueryPostgres, PostgresAddress, load
from read_model.tables import metadata


def _address() -> PostgresAddress:
    return load(OwnerQueryPostgres).query_database


run_environment(metadata, _address)
