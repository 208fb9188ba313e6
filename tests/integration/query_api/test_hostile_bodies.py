"""Whatever the JSON Parsing Test Suite has, sent as a search: what is no JSON is 400, and nothing is a 5xx."""

import httpx

from tests.hostile.sets import documents


async def test_what_is_no_json_is_said_to_be_none(api: httpx.AsyncClient) -> None:
    for name, body in documents().items():
        answer = await api.post("/users/search", content=body, headers={"Content-Type": "application/json"})

        assert answer.status_code == 400 if name.startswith("n_") else answer.status_code < 500, (name, answer.text)
