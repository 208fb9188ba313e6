"""The front and FastAPI answer every request alike."""

from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from command_api.app import create_app
from command_api.http.dependencies import resources
from command_api.settings import CommandApiSettings
from tests.integration.command_api.conftest import Connection, register, serving

JSON = {"Content-Type": "application/json"}
PATCH = {"Content-Type": "application/merge-patch+json"}
ATTRIBUTES = [
    b'{"n":1e300}',
    b'{"n":1.0,"m":-0.0,"k":12345678901234567890123}',
    b'{"n":0.1,"m":5e-324,"k":1.7976931348623157e308}',
    b'{"n":1,"n":2}',
    b'{"n":NaN}',
    b'{"n":1e999}',
    b'{"n":"\\ud83d\\ude00","\\u00fc":[null,true]}',
    b'{"n":"\\ud83d"}',
    b'{"n":"\\u0000"}',
    b'{"n":"\xff"}',
    b'{"n":[[[[[[1]]]]]]}',
    b"[]",
    b"null",
]
REQUESTS: list[tuple[bytes, dict[str, str]]] = [
    *((b'{"attributes":' + attributes + b"}", PATCH) for attributes in ATTRIBUTES),
    (b'  {"display_name" : "X"}\n', JSON),
    (b'\xef\xbb\xbf{"display_name":"X"}', JSON),
    ('{"display_name":"X"}'.encode("utf-16-le"), JSON),
    (b'{"display_name":"X"}', {"Content-Type": "application/json; charset=utf-8"}),
    (b'{"display_name":"X"}', {"Content-Type": "APPLICATION/JSON"}),
    (b'{"display_name":"X"}', {**JSON, "Accept": "application/json;q=0.5, */*;q=0.1"}),
    (b'{"display_name":"X"}', {**JSON, "Accept": "text/html"}),
    (b'{"display_name":"X"}', {**JSON, "Content-Encoding": "gzip"}),
    (b'{"display_name":"X"}', {**JSON, "Content-Encoding": "identity"}),
    (b'{"display_name":7}', JSON),
    (b'{"display_name":"X",}', JSON),
    (b'{"display_name":"X"} {}', JSON),
    (b'{"unknown":1}', JSON),
    (b"", JSON),
    (b"{}", JSON),
    (b"null", JSON),
]


@pytest.fixture
async def thorough(settings: CommandApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    """An app whose every request goes FastAPI's way, because something was put in a dependency's place."""
    app = create_app(settings)
    app.dependency_overrides[resources] = lambda: app.state.resources
    async with serving(app) as client:
        yield client


@pytest.mark.parametrize(("body", "headers"), REQUESTS)
async def test_both_ways_answer_alike(
    api: httpx.AsyncClient,
    thorough: httpx.AsyncClient,
    database: Connection,
    body: bytes,
    headers: dict[str, str],
) -> None:
    answers = []
    for client, name in ((api, "ann"), (thorough, "bob")):
        user = await register(client, name)
        answer = await client.patch(f"/users/{user['id']}/profile", content=body, headers=headers)
        answers.append((answer.status_code, _shown(answer.json())))
        answers.append(await database.fetchval("SELECT attributes::text FROM users WHERE username = $1", name))

    assert answers[:2] == answers[2:]


def _shown(document: dict[str, Any]) -> dict[str, str]:
    own = {"id", "email", "username", "created_at", "updated_at", "request_id", "instance"}
    return {name: repr(value) for name, value in document.items() if name not in own}


def _with_an_arabic_digit(identifier: str) -> str:
    return identifier.replace("0", "\N{ARABIC-INDIC DIGIT ZERO}", 1)


@pytest.mark.parametrize(
    "form",
    [
        str,
        str.upper,
        "urn:uuid:{}".format,
        "{{{}}}".format,
        "{{{}".format,
        "x{}".format,
        lambda identifier: identifier.replace("-", ""),
        lambda identifier: "-".join(identifier.replace("-", "")),
        lambda identifier: "0x" + identifier.replace("-", "")[2:],
        lambda identifier: identifier.replace("-", "_"),
        _with_an_arabic_digit,
        lambda _: "",
    ],
)
async def test_ids_are_read_alike(
    api: httpx.AsyncClient, thorough: httpx.AsyncClient, form: Callable[[str], str]
) -> None:
    user = await register(api, "ann")
    url = f"/users/{quote(form(user['id']))}/username"

    answers = [await client.put(url, json={"username": "new"}) for client in (api, thorough)]

    assert answers[0].status_code == answers[1].status_code
    assert _shown(answers[0].json()) == _shown(answers[1].json())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/users/"),
        ("POST", "/users/"),
        ("POST", "/users//users"),
        ("POST", "/users/x/users"),
        ("PUT", "/users//email"),
        ("POST", "/users//email/verify"),
        ("POST", "/users/{id}/deactivate"),
        ("POST", "/users/{id}"),
    ],
)
async def test_paths_without_an_id_are_found_alike(
    api: httpx.AsyncClient, thorough: httpx.AsyncClient, database: Connection, method: str, path: str
) -> None:
    document = {"email": "ann@example.com", "username": "ann", "password": "correct horse"}

    answers = [await client.request(method, path, json=document) for client in (api, thorough)]

    assert answers[0].status_code == answers[1].status_code
    assert answers[0].status_code in {404, 405, 422}
    assert _shown(answers[0].json()) == _shown(answers[1].json())
    assert await database.fetchval("SELECT count(*) FROM users") == 0
