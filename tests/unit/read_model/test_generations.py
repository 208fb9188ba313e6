"""The names of read tables: statements use them as they are, and a generation's tables are found by them."""

import re

import pytest

from read_model.catalogue import SCHEMAS
from read_model.generations import Generation, indexes_of, rollback_target, tables_of

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


@pytest.mark.parametrize(("number", "target"), [(None, 2), (1, 1), (3, 3), (4, None), (5, None), (9, None)], ids=str)
def test_a_rollback_goes_to_the_newest_that_is_not_refused_or_to_the_one_that_is_named(
    number: int | None, target: int | None
) -> None:
    known = [
        Generation("users", 1, 3, "standby"),
        Generation("users", 2, 3, "standby"),
        Generation("users", 3, 3, "standby", "another log"),
        Generation("users", 4, 3, "serving"),
        Generation("users", 5, 3, "retired"),
    ]
    found = rollback_target(known, number)

    assert (found and found.number) == target
