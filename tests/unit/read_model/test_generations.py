"""The names of read tables: statements use them as they are, and a generation's tables are found by them."""

import re

import pytest

from read_model.catalogue import SCHEMAS
from read_model.generations import indexes_of, tables_of

#: PostgreSQL cuts longer names off, so that two of them could become one.
LONGEST_NAME = 63
#: A number that no installation reaches, so that the names that grow with it are as long as they get.
LATE = 1_000_000


def names(projection: str, number: int) -> list[str]:
    """Of the tables, their primary keys and their indexes."""
    tables = tables_of(projection, number).sorted_tables
    indexes = [str(index.name) for table in tables for index in table.indexes]
    return [name for table in tables for name in (table.name, f"{table.name}_pkey")] + indexes


@pytest.mark.parametrize("projection", SCHEMAS)
def test_a_generations_tables_are_told_by_their_names(projection: str) -> None:
    for number in (1, 10):
        own = f"{projection}_g{number}"
        tables = list(tables_of(projection, number).tables)
        assert own in tables
        assert all(table == own or table.startswith(f"{own}_") for table in tables)


@pytest.mark.parametrize("projection", SCHEMAS)
def test_names_need_no_quotes_and_are_never_cut_off(projection: str) -> None:
    for name in names(projection, LATE):
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert len(name) <= LONGEST_NAME


def test_no_two_generations_of_whatever_projection_share_a_name() -> None:
    found = [name for projection in SCHEMAS for number in (1, 2, 10, 11) for name in names(projection, number)]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("projection", SCHEMAS)
def test_every_index_can_be_made_again_without_harm(projection: str) -> None:
    for table in tables_of(projection, 3).sorted_tables:
        statements = indexes_of(table)
        assert len(statements) == len(table.indexes)
        assert all(statement.startswith("CREATE INDEX IF NOT EXISTS ") for statement in statements)
