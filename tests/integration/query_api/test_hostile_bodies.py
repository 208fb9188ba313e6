"""Two public sets of hostile input, sent as a search: what is no JSON is 400, and nothing is a 5xx."""

import httpx

from query_api.users.filters import FILTER_NAMES
from tests.hostile.sets import documents, naughty_strings

#: Any text is one.
TEXTS = ("email", "username", "email_prefix", "username_prefix")
#: Read from a text that has a form.
FORMED = ("cursor", "sort", *(name for name in FILTER_NAMES if name not in {*TEXTS, "id"}))


async def test_what_is_no_json_is_said_to_be_none(api: httpx.AsyncClient) -> None:
    for name, body in documents().items():
        answer = await api.post("/users/search", content=body, headers={"Content-Type": "application/json"})

        assert answer.status_code == 400 if name.startswith("n_") else answer.status_code < 500, (name, answer.text)


async def test_a_naughty_text_is_looked_for_or_refused_with_its_member(api: httpx.AsyncClient) -> None:
    looked_for = 0
    for string in naughty_strings():
        answer = await api.post("/users/search", json=dict.fromkeys(TEXTS, string))

        assert answer.status_code in {200, 422}, (string, answer.text)
        looked_for += answer.status_code == 200
        if answer.status_code == 422:
            assert {error["pointer"][2:] for error in answer.json()["errors"]} <= set(TEXTS)

    assert looked_for > 200


async def test_a_naughty_text_where_a_form_is_asked_for_is_refused_with_its_member(api: httpx.AsyncClient) -> None:
    for string in naughty_strings():
        answer = await api.post("/users/search", json={**dict.fromkeys(FORMED, string), "id": [string]})

        assert answer.status_code == 422, string
        assert {error["pointer"] for error in answer.json()["errors"]} >= {f"#/{name}" for name in (*FORMED[1:], "id")}
