"""The reference pages say what the code says: every setting, command, option, event and problem type, and no others."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from fastapi import FastAPI
from pydantic.fields import FieldInfo
from typer.core import TyperGroup

from chassis.http.api import SHARED_PROBLEMS
from chassis.settings import Settings, aliases_of
from cli.access.address import CommandApiAddress, EventApiAddress
from cli.demo import DemoSettings
from cli.kafka_rights import TopicsSettings
from cli.main import COMMANDS, app
from cli.users import UsersSettings
from command_api.app import create_app as create_command_app
from command_api.problems import COMMAND_PROBLEMS
from command_api.settings import CommandApiSettings
from console.settings import ConsoleSettings
from event_api.app import create_app as create_event_app
from event_api.problems import EVENT_PROBLEMS
from event_api.settings import EventApiSettings
from events.user_events import USER_EVENTS
from outbox.settings import RelaySettings
from projectors.settings import ProjectorSettings
from query_api.app import create_app as create_query_app
from query_api.protocol import problems
from query_api.settings import QueryApiSettings
from tests.settings_classes import fields, names
from tests.unit.docs.pages import REFERENCE, ROOT, code_words, command_modules, table_rows

READERS: dict[str, type[Settings]] = {
    "command API": CommandApiSettings,
    "query API": QueryApiSettings,
    "event API": EventApiSettings,
    "console": ConsoleSettings,
    "relay": RelaySettings,
    "projectors": ProjectorSettings,
    "topics": TopicsSettings,
    "demo": DemoSettings,
    "import": CommandApiAddress,
    "users": UsersSettings,
    "erasures": EventApiAddress,
}


#: Of the routes that are an API's own.
PREFIXES = ("/users", "/stats", "/credentials", "/one-time", "/events", "/subscribers", "/erasures", "/receipts")


def _page() -> dict[str, list[str]]:
    """The rows of the settings' page by variable; those of programs have two cells and are left out."""
    rows = (row for row in table_rows((REFERENCE / "settings.md").read_text(encoding="utf-8")) if len(row) == 5)
    return {code_words(row[0])[0]: row for row in rows if code_words(row[0])}


def _default(field: FieldInfo) -> str:
    match field.default:
        case _ if field.is_required():
            return "required"
        case None | "":
            return "none"
        case bool(value):
            return f"`{str(value).lower()}`"
        case tuple(values):
            return f"`{','.join(values)}`"
        case float(value):
            return f"`{value:g}`"
        case value:
            return f"`{value}`"


def test_every_setting_is_on_its_page_and_no_other() -> None:
    assert set(_page()) == set(fields())


def test_the_page_gives_every_name_default_and_reader_of_a_setting() -> None:
    expected = {}
    for name, field in fields().items():
        readers = [who for who, kind in READERS.items() if field_named(kind, name)]
        expected[name] = (names()[name], _default(field), ", ".join(readers))

    found = {name: (code_words(row[0]), row[2], row[3]) for name, row in _page().items()}

    assert found == expected


def field_named(kind: type[Settings], name: str) -> bool:
    return any(aliases_of(field)[0] == name for field in kind.model_fields.values())


def test_the_example_environment_has_every_variable_with_its_default_and_no_secret() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    entries = dict(re.findall(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", text, flags=re.MULTILINE))
    wanted = {alias: field for name, field in fields().items() for alias in names()[name]}

    assert set(entries) == set(wanted)
    commented = dict(re.findall(r"^#([A-Z][A-Z0-9_]+)=(.*)$", text, flags=re.MULTILINE))
    assert {name: f"`{value}`" if value else "none" for name, value in commented.items()} == {
        name: "none" if wanted[name].is_required() else _default(wanted[name]) for name in commented
    }
    assert [name for name in entries if re.search("PASSWORD$|SECRET|KEYS", name) and entries[name]] == []


def _commands(command: Any, name: str = "muster") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its whole name; groups are only on the way to them."""
    if isinstance(command, TyperGroup):
        for child in command.list_commands(None):  # type: ignore[arg-type] # no command of ours looks at its context
            yield from _commands(command.get_command(None, child), f"{name} {child}")  # type: ignore[arg-type] # as above
    else:
        yield name, command


def _sections() -> dict[str, str]:
    """The text under each heading of the command line's page that is a command."""
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    parts = re.split(r"^##+ `(muster [a-z -]+)`.*$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _options(command: Any) -> set[str]:
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    # Those that every program has are no news.
    return {opt for option in options for opt in option.opts} - {"--help", "--install-completion", "--show-completion"}


def test_every_command_and_option_is_on_the_command_lines_page_and_no_other() -> None:
    expected = {name: _options(command) for name, command in _commands(typer.main.get_command(app))}

    sections = _sections()

    found = {name: {word for row in table_rows(text) for word in code_words(row[0])} for name, text in sections.items()}
    options = {name: {word.split(" ")[0] for word in words if word.startswith("-")} for name, words in found.items()}
    assert {name: found for name, found in options.items() if name.split(" ")[1] in COMMANDS} == expected
    assert {name.split(" ")[1] for name in sections} - set(COMMANDS) <= command_modules()


def _routes(app: FastAPI) -> set[str]:
    """`METHOD /path` of every command or query."""
    routes = set()
    for path, methods in app.openapi()["paths"].items():
        if path.startswith(PREFIXES):
            routes |= {f"{method.upper()} {path.replace('{user_id}', '{id}')}" for method in methods}
    return routes


def test_every_route_is_on_the_apis_page_and_no_other() -> None:
    text = (REFERENCE / "http-apis.md").read_text(encoding="utf-8")
    cells = [row[0] for row in table_rows(text)]
    found = {word for cell in cells for word in code_words(cell) if word.partition(" ")[2].startswith(PREFIXES)}

    command = create_command_app(
        CommandApiSettings.model_construct(public_query_url="http://query", auth_disabled=True)
    )
    query = create_query_app(QueryApiSettings.model_construct(auth_disabled=True))

    events = create_event_app(EventApiSettings.model_construct(auth_disabled=True))

    assert found == _routes(command) | _routes(query) | _routes(events)


def test_every_event_type_is_on_its_page_and_no_other() -> None:
    text = (REFERENCE / "events.md").read_text(encoding="utf-8")

    assert set(re.findall(r"`(muster\.user\.[a-z_]+\.v\d+)`", text)) == set(USER_EVENTS.types())


@pytest.mark.parametrize(
    ("heading", "types"),
    [
        ("Command API", COMMAND_PROBLEMS),
        ("Query API", problems.QUERY_PROBLEMS),
        ("Event API", EVENT_PROBLEMS),
        ("All APIs", SHARED_PROBLEMS),
    ],
)
def test_every_problem_type_is_on_the_apis_page_with_its_status(heading: str, types: tuple[Any, ...]) -> None:
    text = (REFERENCE / "http-apis.md").read_text(encoding="utf-8")
    section = re.split(rf"^### Problem types: {heading}$", text, flags=re.MULTILINE)[1].split("\n#")[0]

    found = {row[0].strip("`"): row[1] for row in table_rows(section) if row[0].startswith("`")}

    assert found == {kind.slug: str(kind.status) for kind in types}
