"""Paths that only look like a route's, of every route of every API: nothing is served there, and nothing fails."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any, Final
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from starlette.routing import compile_path
from starlette.types import Message

from chassis.access.rules import AccessTable, Rule
from chassis.http.problems import Problem
from chassis.identifiers import new_id
from chassis.settings import Kafka, PostgresAddress, Topics
from cli.access.scopes import SCOPES
from command_api.access import ACCESS as COMMAND
from command_api.app import create_app as create_command_api
from console.access import ACCESS as CONSOLE
from event_api.access import ACCESS as EVENTS
from event_api.app import create_app as create_event_api
from query_api.access import ACCESS as QUERY
from query_api.app import create_app as create_query_api
from tests.integration.command_api.conftest import make_settings as command_settings
from tests.integration.event_api.conftest import make_settings as event_settings
from tests.integration.query_api.conftest import make_settings as query_settings
from tests.issuing import bearer

ID: Final = str(new_id())
TABLES: Final = {"command": COMMAND, "query": QUERY, "events": EVENTS, "console": CONSOLE}


def lookalikes(rule: Rule) -> Iterator[str]:
    """Paths as they are sent that somebody who reads them generously might take for the rule's."""
    path = "/".join(ID if part[:1] == "{" else part for part in rule.path.split("/"))
    yield from (path + end for end in ("%0A", "%0D", "%00", "%0D%0A", "/", "//", "/.", "/%2E", ";x", "%20", "%2F"))
    yield from (f"/{path}", f"/.{path}", f"/x/..{path}", f"/%2E%2E{path}", path[1:], f"/%0A{path}")
    head, _, last = path.rpartition("/")
    yield from (f"{head}//{last}", f"{head}/./{last}", f"{head}/x/../{last}", f"{head}\\{last}")
    if (upper := "/".join(ID if part[:1] == "{" else part.upper() for part in rule.path.split("/"))) != path:
        yield upper


@pytest.fixture(params=["command", "query", "events"])
async def api(
    request: pytest.FixtureRequest,
    kafka: Kafka,
    topics: Topics,
    command_database: PostgresAddress,
    query_database: PostgresAddress,
) -> AsyncIterator[tuple[FastAPI, AccessTable]]:
    app = {
        "command": lambda: create_command_api(command_settings(command_database)),
        "query": lambda: create_query_api(query_settings(query_database)),
        "events": lambda: create_event_api(event_settings(kafka, topics, query_database)),
    }[request.param]()
    async with app.router.lifespan_context(app):
        yield app, TABLES[request.param]


async def answered(app: FastAPI, method: str, path: str, headers: dict[str, str]) -> int:
    """The status for a path as it is sent: clients tidy theirs up. Without a token a body must not be asked for."""
    sent: list[Message] = []
    given = {"host": "api", "accept": "application/json", "content-type": "application/json", **headers}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }

    async def receive() -> Message:
        assert "Authorization" in headers, "the body was read before access was decided"
        return {"type": "http.request", "body": json.dumps({}).encode(), "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    status: int = sent[0]["status"]
    return status


async def test_nothing_is_served_where_a_path_only_looks_like_a_routes(api: tuple[FastAPI, AccessTable]) -> None:
    app, table = api
    everything = bearer("operator", SCOPES)
    served: dict[str, Any] = {}
    for rule in table:
        for path in lookalikes(rule):
            for name, headers, allowed in (("nobody", {}, {401, 404, 405}), ("all", everything, range(400, 500))):
                status = await answered(app, rule.method, path, headers)
                if status not in allowed:
                    served[f"{name}: {rule.method} {path}"] = status

    assert served == {}


@pytest.mark.parametrize("name", TABLES)
def test_what_the_framework_would_take_for_a_route_has_a_rule_or_is_refused(name: str) -> None:
    """The table of every guard, the console's too: whatever its routes' patterns match is found there."""
    table = TABLES[name]
    matched = 0
    for rule in table:
        pattern, _, _ = compile_path(rule.path)
        for path in map(unquote, lookalikes(rule)):
            if pattern.match(path):
                matched += 1
                with suppress(Problem):
                    assert table.find(rule.method, path) is not None, (rule, path)

    assert matched >= len(list(table)), "each pattern takes at least a line's end"
