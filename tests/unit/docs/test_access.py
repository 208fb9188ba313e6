"""The page about access shows the tables that the APIs decide by."""

from chassis.access.caller import SELF
from chassis.access.rules import AccessTable
from cli.access.scopes import SCOPES
from command_api.access import ACCESS as COMMAND
from console.access import ACCESS as CONSOLE
from event_api.access import ACCESS as EVENTS
from query_api.access import ACCESS as QUERY
from tests.unit.docs.pages import REFERENCE, code_words, table_rows


def _rows(table: AccessTable) -> list[tuple[str, list[str], bool]]:
    return [(f"{rule.method} {rule.path}", list(rule.scopes), rule.own) for rule in table]


def test_every_route_is_on_the_page_with_what_opens_it() -> None:
    text = (REFERENCE / "access.md").read_text(encoding="utf-8")
    section = text.partition("## Routes")[2].partition("\n## ")[0]
    found = [(row[0].strip("`"), code_words(row[1]), row[2] == "yes") for row in table_rows(section) if "/" in row[0]]

    assert found == _rows(COMMAND) + _rows(QUERY) + _rows(EVENTS) + _rows(CONSOLE)


def test_every_scope_is_explained() -> None:
    text = (REFERENCE / "access.md").read_text(encoding="utf-8")
    explained = {
        word for row in table_rows(text.partition("## Scopes")[2].partition("###")[0]) for word in code_words(row[0])
    }

    assert {scope for table in (COMMAND, QUERY, EVENTS) for rule in table for scope in rule.scopes} < explained
    assert explained == {*SCOPES, SELF}
