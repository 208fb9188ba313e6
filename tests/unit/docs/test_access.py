"""The page about access shows the tables that the APIs decide by."""

from chassis.access.caller import SELF
from chassis.access.rules import AccessTable
from cli.access.scopes import SCOPES
from command_api.access import ACCESS as COMMAND
from console.access import ACCESS as CONSOLE
from event_api.access import ACCESS as EVENTS
from query_api.access import ACCESS as QUERY
from tests.unit.docs.pages import REFERENCE, code_words, table_rows

#: By the heading of their tables.
APIS = {"Command API": COMMAND, "Query API": QUERY, "Event API": EVENTS, "Console": CONSOLE}
SOURCES = {"Command API": "command_api", "Query API": "query_api", "Event API": "event_api", "Console": "console"}


def _rows(table: AccessTable) -> list[tuple[str, list[str], bool]]:
    return [(f"{rule.method} {rule.path}", list(rule.scopes), rule.own) for rule in table]


def test_every_route_is_on_the_page_below_its_api_with_what_opens_it() -> None:
    text = (REFERENCE / "access.md").read_text(encoding="utf-8")
    _, *parts = text.partition("## Routes")[2].partition("\n## ")[0].split("\n### ")
    sections = {heading: rest for heading, _, rest in (part.partition("\n") for part in parts)}

    assert list(sections) == list(APIS)
    for heading, section in sections.items():
        rows = [row for row in table_rows(section) if "/" in row[0]]
        found = [(row[0].strip("`"), code_words(row[1]), row[2] == "yes") for row in rows]
        assert found == _rows(APIS[heading]), heading
        assert f"`{SOURCES[heading]}/access.py`" in section


def test_every_scope_is_explained() -> None:
    text = (REFERENCE / "access.md").read_text(encoding="utf-8")
    explained = {
        word for row in table_rows(text.partition("## Scopes")[2].partition("###")[0]) for word in code_words(row[0])
    }

    assert {scope for table in (COMMAND, QUERY, EVENTS) for rule in table for scope in rule.scopes} < explained
    assert explained == {*SCOPES, SELF}
