"""The OpenAPI document says all there is: every route, header, error, example."""

from typing import Any

import httpx
import pytest

from events.envelope import data_schema
from events.user_events import USER_EVENTS

OPERATIONS = {
    ("post", "/users"): "register_user",
    ("put", "/users/{id}/email"): "change_email",
    ("post", "/users/{id}/email/verify"): "verify_email",
    ("put", "/users/{id}/username"): "change_username",
    ("put", "/users/{id}/password"): "change_password",
    ("patch", "/users/{id}/profile"): "change_profile",
    ("post", "/users/{id}/deactivate"): "deactivate_user",
    ("post", "/users/{id}/reactivate"): "reactivate_user",
    ("delete", "/users/{id}"): "erase_user",
    ("post", "/users/import"): "import_users",
    ("post", "/credentials/verify"): "verify_credentials",
    ("post", "/users/{id}/one-time-tokens"): "issue_one_time_token",
    ("post", "/one-time-tokens/redeem"): "redeem_one_time_token",
}
#: They change no user whom the caller names, at a version that the caller knows.
VERSIONLESS = {
    "register_user",
    "import_users",
    "verify_credentials",
    "issue_one_time_token",
    "redeem_one_time_token",
}
#: Their answers are not stored.
KEYLESS = VERSIONLESS - {"register_user"}
#: Their answers are of no one user at a version.
WITHOUT_USER = {"import_users", "issue_one_time_token"}
SETS_PASSWORD = {"change_password", "redeem_one_time_token"}
#: Their attempts are counted.
CHECKS_PASSWORD = {"change_password", "verify_credentials"}


@pytest.fixture
async def document(api: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get("/openapi.json")).json()
    return found


async def test_every_command_is_there_under_its_stable_name(document: dict[str, Any]) -> None:
    found = {
        (method, path): operation["operationId"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }

    assert found == OPERATIONS


async def test_every_command_has_all_its_errors_as_problems_with_examples(document: dict[str, Any]) -> None:
    for (method, path), name in OPERATIONS.items():
        responses = document["paths"][path][method]["responses"]
        wanted = {"400", "406", "413", "422", "500", "503"}
        if name not in VERSIONLESS:
            wanted |= {"404", "409", "410", "412"}
        assert wanted <= set(responses), name
        for status, response in responses.items():
            if status < "400":
                continue
            assert list(response["content"]) == ["application/problem+json"], (name, status)
            problem = response["content"]["application/problem+json"]
            assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert problem["examples"]
            for example in problem["examples"].values():
                assert str(example["value"]["status"]) == status
                assert example["value"]["type"] in response["description"]


async def test_what_checks_a_password_may_refuse_further_attempts(document: dict[str, Any]) -> None:
    for (method, path), name in OPERATIONS.items():
        refused = document["paths"][path][method]["responses"].get("429", {})
        assert ("/problems/too-many-attempts" in str(refused)) == (name in CHECKS_PASSWORD), name


async def test_every_success_declares_its_headers_and_an_example(document: dict[str, Any]) -> None:
    for (method, path), name in OPERATIONS.items():
        for status, response in document["paths"][path][method]["responses"].items():
            if status >= "400":
                continue
            headers = set(response["headers"])
            assert "X-Request-Id" in headers
            assert ({"ETag", "Consistency-Token"} <= headers) == (name not in WITHOUT_USER), name
            assert ("Idempotent-Replayed" in headers) == (name not in KEYLESS), name
            assert ("Location" in headers) == (name == "register_user"), name
            assert ("Device-Token" in headers) == (name in SETS_PASSWORD), name
            for media in response.get("content", {}).values():
                assert media["example"]


async def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    for (method, path), name in OPERATIONS.items():
        for media_type, media in document["paths"][path][method].get("requestBody", {}).get("content", {}).items():
            assert media.get("example"), (name, media_type)


async def test_commands_take_a_key_and_changes_a_version(document: dict[str, Any]) -> None:
    for (method, path), name in OPERATIONS.items():
        names = {parameter["name"] for parameter in document["paths"][path][method]["parameters"]}
        assert ("Idempotency-Key" in names) == (name not in KEYLESS), name
        assert ("If-Match" in names) == (name not in VERSIONLESS), name


async def test_a_patch_may_be_sent_under_both_media_types(document: dict[str, Any]) -> None:
    body = document["paths"]["/users/{id}/profile"]["patch"]["requestBody"]

    assert set(body["content"]) == {"application/merge-patch+json", "application/json"}


async def test_no_reference_leads_nowhere(document: dict[str, Any]) -> None:
    for reference in _references(document):
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/")]


async def test_the_schema_of_every_event_is_served_where_its_envelope_says(api: httpx.AsyncClient) -> None:
    for type_ in USER_EVENTS.types():
        answer = await api.get(data_schema(type_))
        assert answer.status_code == 200, type_
        assert answer.json()["$id"] == data_schema(type_)
    assert (await api.get("/schemas/muster.user.unheard_of.v1.json")).status_code == 404


def _references(value: Any) -> set[str]:
    match value:
        case {"$ref": str(reference)}:
            return {reference}
        case dict():
            return set().union(*map(_references, value.values())) if value else set()
        case list():
            return set().union(*map(_references, value)) if value else set()
        case _:
            return set()
