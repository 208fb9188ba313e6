"""openapi-python-client makes working clients of both APIs' documents; they run in an environment without Muster."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from chassis.settings import PostgresAddress
from command_api.app import create_app as create_command_app
from query_api.app import create_app as create_query_app
from tests.integration.command_api.conftest import make_settings as command_settings
from tests.integration.query_api import client_session
from tests.integration.query_api.conftest import make_settings
from tests.integration.query_api.read_side import ReadSide, person
from tests.integration.query_api.real_server import served
from tests.issuing import token

USERS = 1000
ROOT = Path(__file__).parents[3]
#: Made by `make test`; the generator and ours do not fit into one environment.
ENVIRONMENT = ROOT / ".venv" / "client" / "bin"
SECONDS = 60


@pytest.fixture
def environment() -> Path:
    if not (ENVIRONMENT / "python").exists():
        pytest.fail("The environment of generated clients is missing: run `make .venv/.client`.", pytrace=False)
    return ENVIRONMENT


async def test_generated_clients_page_through_a_thousand_users_and_register_one(
    *,
    environment: Path,
    tmp_path: Path,
    query_database: PostgresAddress,
    command_database: PostgresAddress,
    read_side: ReadSide,
) -> None:
    people = [person(number) for number in range(USERS)]
    await read_side.register(*people)
    query = create_query_app(make_settings(query_database))
    command = create_command_app(command_settings(command_database))
    # The generator knows no streams of lines; everything else must go through it without a warning.
    del command.openapi()["paths"]["/users/import"]

    await asyncio.to_thread(generate, environment, tmp_path, query_client=query, command_client=command)
    said = await asyncio.to_thread(session, environment, tmp_path, query, command)

    assert said["seen"] == [str(user.id) for user in reversed(people)]
    shown = json.loads(people[-1].model_dump_json())
    assert {name: said["one"][name] for name in ("id", "email", "username", "display_name", "attributes")} == {
        name: shown[name] for name in ("id", "email", "username", "display_name", "attributes")
    }
    registered = said["registered"]
    assert (registered["email"], registered["username"], registered["version"]) == ("ann@example.com", "ann", 1)


def generate(environment: Path, folder: Path, **apps: FastAPI) -> None:
    """Make a package of each app's document."""
    config = folder / "config.yml"
    config.write_text("post_hooks: []\n")
    for name, app in apps.items():
        document = folder / f"{name}.json"
        document.write_text(json.dumps(app.openapi()))
        places = ["--path", str(document), "--output-path", str(folder / name)]
        options = ["--config", str(config), "--meta", "none", "--fail-on-warning"]
        run(environment / "openapi-python-client", "generate", *places, *options)


def session(environment: Path, folder: Path, query: FastAPI, command: FastAPI) -> Any:
    """What the clients' program says of its session with both apps."""
    with served(query) as query_url, served(command) as command_url:
        said = run(
            environment / "python", "-W", "error", client_session.__file__, str(folder), query_url, command_url, token()
        )
    return json.loads(said)


def run(program: Path, *arguments: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
