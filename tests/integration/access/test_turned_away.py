"""Each API ahead of which the transport refuses: the words are the app's own, whatever its answers carry."""

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from chassis.http.overload.admission import Admission
from chassis.settings import Kafka, PostgresAddress, Topics
from command_api.app import create_app as create_command_api
from event_api.app import create_app as create_event_api
from query_api.app import create_app as create_query_api
from tests.integration.command_api.conftest import make_settings as command_settings
from tests.integration.event_api.conftest import make_settings as event_settings
from tests.integration.query_api.conftest import make_settings as query_settings
from tests.integration.query_api.real_server import served

PATHS = {"command": "/users", "query": "/users", "events": "/events"}


@pytest.fixture(params=PATHS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def app(
    name: str, command_database: PostgresAddress, query_database: PostgresAddress, kafka: Kafka, topics: Topics
) -> Starlette:
    if name == "command":
        return create_command_api(command_settings(command_database))
    if name == "query":
        return create_query_api(query_settings(query_database))
    return create_event_api(event_settings(kafka, topics, query_database))


def test_who_is_turned_away_is_told_so_and_the_connection_goes_on(
    name: str, app: Starlette, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_many = [False]
    monkeypatch.setattr(Admission, "refuses", lambda _self, path: too_many[0] and path != "/readyz")
    with served(app) as url, httpx.Client(base_url=url) as client:
        too_many[0] = True
        answers: list[Any] = [client.get(PATHS[name]) for _ in range(3)]
        too_many[0] = False
        within = client.get("/health")

    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["type"] for answer in answers} == {"/problems/busy"}
    assert all(answer.headers["retry-after"] and answer.headers["x-request-id"] for answer in answers)
    assert within.status_code == 200
