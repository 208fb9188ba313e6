"""The settings of a benchmark's processes."""

from pathlib import Path

import pytest

from benchmarks.running.servers import open_settings
from chassis.access.settings import GuardedHttp
from chassis.settings import load
from cli.stack.settings import Ports
from command_api.settings import CommandApiSettings
from local_stack.postgres.server import ServerAddress
from query_api.settings import QueryApiSettings


@pytest.mark.parametrize("kind", [CommandApiSettings, QueryApiSettings])
def test_both_apis_start_with_them_and_ask_for_no_token(
    kind: type[GuardedHttp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres = ServerAddress("127.0.0.1", 5432, "muster", "secret")
    for name, value in open_settings(tmp_path, Ports(*range(1, 13)), postgres).items():
        monkeypatch.setenv(name, value)

    assert load(kind).expectations("127.0.0.1") is None
