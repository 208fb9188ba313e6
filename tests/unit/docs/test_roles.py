"""docs/reference/roles.md has the table of grants, to the letter."""

from chassis.postgres.roles import ROLES
from cli.roles.grants import rights
from tests.unit.docs.pages import REFERENCE, code_words, table_rows


def _rows() -> list[list[str]]:
    return list(table_rows((REFERENCE / "roles.md").read_text(encoding="utf-8")))


def test_the_page_has_every_role_with_its_variables_and_databases() -> None:
    found = {
        code_words(row[0])[0]: (code_words(row[1]), row[2].split(", "))
        for row in _rows()
        if len(code_words(row[1])) == 2
    }

    assert found == {
        role: ([f"{prefix}_POSTGRES_USER", f"{prefix}_POSTGRES_PASSWORD"], list(databases))
        for role, (prefix, databases) in ROLES.items()
    }


def test_the_page_has_every_right_and_no_other() -> None:
    found = [
        (row[0], *code_words(row[1]), *code_words(row[2]), row[3]) for row in _rows() if row[0] in {"command", "query"}
    ]

    assert found == [(right.database, right.name, right.role, right.privileges) for right in rights()]
