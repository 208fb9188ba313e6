"""Two public sets of hostile input, sent about subscribers: what is no JSON is 400, and nothing is a 5xx."""

from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from chassis.settings import Kafka, PostgresAddress, Topics
from event_api.app import create_app
from tests.hostile.sets import documents, naughty_strings
from tests.integration.event_api.conftest import make_settings
from tests.integration.query_api.real_server import served

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def url(kafka: Kafka, topics: Topics, query_database: PostgresAddress) -> Iterator[str]:
    with served(create_app(make_settings(kafka, topics, query_database))) as url:
        yield url


@pytest.mark.parametrize(("method", "path"), [("POST", "/subscribers"), ("PUT", "/subscribers/mailer/position")])
async def test_what_is_no_json_is_said_to_be_none(api: httpx.AsyncClient, method: str, path: str) -> None:
    for name, body in documents().items():
        answer = await api.request(method, path, content=body, headers=JSON)

        if not body:  # which is none, not one that is malformed
            assert (answer.status_code, answer.json()["errors"][0]["detail"]) == (422, "is required; add it")
        else:
            assert answer.status_code == 400 if name.startswith("n_") else answer.status_code < 500, (name, answer.text)


async def test_a_naughty_name_or_group_is_taken_as_it_is_or_refused_with_its_field(api: httpx.AsyncClient) -> None:
    taken = 0
    for string in naughty_strings():
        named = await api.post("/subscribers", json={"name": string})
        grouped = await api.post("/subscribers", json={"name": "mailer", "group": string})

        for answer, field in ((named, "name"), (grouped, "group")):
            assert answer.status_code in {200, 201, 409, 422}, (string, answer.text)
            if answer.status_code == 422:
                assert answer.json()["errors"][0]["pointer"] == f"#/{field}"
            elif answer.status_code < 300:
                assert answer.json()[field] == string
                taken += 1
        if named.status_code == 201:
            assert (await api.delete(f"/subscribers/{string}")).status_code == 204

    assert taken > 300


async def test_a_naughty_position_or_path_is_refused(api: httpx.AsyncClient) -> None:
    for string in naughty_strings():
        at = await api.put("/subscribers/mailer/position", json={"position": string})
        of = await api.put(f"/subscribers/{quote(string, safe='')}/position", json={"position": string})
        removed = await api.delete(f"/subscribers/{quote(string, safe='')}")

        assert at.status_code in {400, 422}, (string, at.text)
        assert of.status_code in {400, 404, 405, 422}, (string, of.text)
        assert removed.status_code in {404, 405, 422}, (string, removed.text)
