"""openapi-python-client makes working clients of both APIs' documents."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from chassis.settings import PostgresAddress
from command_api.app import create_app as create_command_app
from query_api.app import create_app as create_query_app
from tests.integration.command_api.conftest import make_settings as command_settings
from tests.integration.query_api.conftest import is_ready, make_settings
from tests.integration.query_api.read_side import ReadSide, person
from tests.waiting import until

pytest.importorskip("openapi_python_client", reason="openapi-python-client belongs to the dev dependencies")

USERS = 1000


@pytest.fixture
def generate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a package of a document and import from it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, app: FastAPI) -> ModuleType:
        document = tmp_path / f"{name}.json"
        document.write_text(json.dumps(app.openapi()))
        places = ["--path", str(document), "--output-path", str(tmp_path / name)]
        config = tmp_path / "config.yml"
        config.write_text("post_hooks: []\n")
        options = ["--config", str(config), "--meta", "none", "--fail-on-warning"]
        command = [sys.executable, "-m", "openapi_python_client", "generate", *places, *options]
        made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
        return importlib.import_module(name)

    return make


def client(package: ModuleType, app: FastAPI) -> Any:
    """The generated client, speaking to the app in this loop."""
    made = package.Client(base_url="http://api", raise_on_unexpected_status=True)
    made.set_async_httpx_client(httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api"))
    return made


async def test_pages_through_a_thousand_users(
    generate: Any, query_database: PostgresAddress, read_side: ReadSide
) -> None:
    people = [person(number) for number in range(USERS)]
    await read_side.register(*people)
    app = create_query_app(make_settings(query_database))
    package = generate("muster_query_client", app)
    users = importlib.import_module("muster_query_client.api.users")
    calls = {name: importlib.import_module(f"{users.__name__}.{name}") for name in ("list_users", "get_user")}
    async with app.router.lifespan_context(app), client(package, app) as api:
        await until(lambda: is_ready(api.get_async_httpx_client()), within=10, what="ready")
        seen, cursor = [], None
        while True:
            given: dict[str, Any] = {"cursor": cursor} if cursor else {}
            page = await calls["list_users"].asyncio(client=api, limit=200, **given)
            seen += page.data
            if not page.has_more:
                break
            cursor = page.next_cursor
        one = await calls["get_user"].asyncio(people[0].id, client=api)

    assert [user.id for user in seen] == [user.id for user in reversed(people)]
    assert (one.email, one.created_at, one.display_name) == (people[0].email, people[0].created_at, None)


async def test_registers_a_user(generate: Any, command_database: PostgresAddress) -> None:
    app = create_command_app(command_settings(command_database))
    document = app.openapi()
    # The generator knows no streams of lines; everything else must go through it without a warning.
    del document["paths"]["/users/import"]
    package = generate("muster_command_client", app)
    operation = document["paths"]["/users"]["post"]
    body_name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    body = getattr(importlib.import_module("muster_command_client.models"), body_name)
    register = importlib.import_module(f"muster_command_client.api.users.{snake(operation['operationId'])}")
    async with app.router.lifespan_context(app), client(package, app) as api:
        wanted = body(email="ann@example.com", username="ann", password="correct horse")
        user = await register.asyncio(client=api, body=wanted)

    assert (user.email, user.username, user.version) == ("ann@example.com", "ann", 1)


def snake(name: str) -> str:
    """As the generator names modules."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()
