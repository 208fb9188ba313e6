"""Schemathesis reads the OpenAPI document and tries to break its promise: every check, and no server error."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from chassis.postgres.database import connect, disconnect
from query_api.app import create_app
from query_api.openapi import PATH_ID
from tests.conftest import database_address, drop_database, recreate_database
from tests.infrastructure import Servers
from tests.integration.query_api.conftest import make_settings
from tests.integration.query_api.read_side import ReadSide, moved, person
from tests.integration.query_api.real_server import served
from tests.issuing import bearer

DATABASE = "query_schema"
#: A cursor, a token or a period is more than its form, and 200 ids beside other filters are a long target: what keeps
#: to the schema may still be refused.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "304", "400", "404", "414", "422"]
"""
SECONDS = 300


@pytest.fixture(scope="module")
def url(servers: Servers, templates: dict[str, str]) -> Iterator[str]:
    """An app whose document's examples exist."""
    asyncio.run(fill(servers, templates["query"]))
    with served(create_app(make_settings(database_address(servers, DATABASE)))) as base:
        yield base
    asyncio.run(drop_database(servers, DATABASE))


async def fill(servers: Servers, template: str) -> None:
    await recreate_database(servers, DATABASE, template)
    connection = await connect(database_address(servers, DATABASE), application="test")
    read_side = ReadSide(connection)
    ann = person(id=UUID(str(PATH_ID["example"])), username="ann", email="ann@example.com")
    await read_side.register(ann, *(person(number) for number in range(60)))
    changed = moved(ann, "ann@example.net")
    await read_side.apply(changed, moved(changed.user, "ann@example.com"))
    await disconnect(connection)


WITH_TOKEN = ["--checks", "all", "--max-examples", "25", "--header", f"Authorization: {bearer()['Authorization']}"]
WITHOUT = ["--checks", "not_a_server_error,status_code_conformance,response_schema_conformance", "--max-examples", "3"]


@pytest.mark.parametrize("how", [WITH_TOKEN, WITHOUT], ids=["with a token", "without"])
def test_the_document_holds_whatever_is_sent(url: str, tmp_path: Path, how: list[str]) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    options = ["--seed", "7", "--workers", "1", "--no-color", *how]
    program = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)]
    run = subprocess.run(
        [*program, "run", f"{url}/openapi.json", *options],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=tmp_path,
    )

    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
