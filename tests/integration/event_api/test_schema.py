"""Schemathesis reads the event API's OpenAPI document and tries to break its promise: no server error, as it says."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from chassis.settings import Kafka, PostgresAddress, Topics
from cli.access.scopes import SCOPES
from event_api.app import create_app
from tests.integration.event_api.conftest import make_settings
from tests.integration.query_api.real_server import served
from tests.issuing import bearer

#: A stream has no end, and a page may be waited for: pages at once.
AT_ONCE: Final = ["--header", "Accept: application/json", "--header", "Prefer: wait=0"]
TOKEN: Final = f"Authorization: {bearer('shop', SCOPES)['Authorization']}"
WITH_TOKEN: Final = ["--max-examples", "5", "--phases", "examples,coverage,fuzzing", "--header", TOKEN]
WITHOUT: Final = ["--max-examples", "2", "--phases", "fuzzing"]
CHECKS: Final = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
SECONDS: Final = 300


@pytest.fixture
def url(kafka: Kafka, topics: Topics, query_database: PostgresAddress) -> Iterator[str]:
    with served(create_app(make_settings(kafka, topics, query_database))) as base:
        yield base


@pytest.mark.parametrize("how", [WITH_TOKEN, WITHOUT], ids=["with a token", "without"])
def test_the_document_holds_whatever_is_sent(url: str, tmp_path: Path, how: list[str]) -> None:
    options = ["--seed", "7", "--workers", "1", "--no-color", "--checks", CHECKS, *AT_ONCE, *how]
    run = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", *options],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=tmp_path,
    )

    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
