"""Schemathesis against the command API: every request the document allows or forbids is answered as it says.

Used without its pytest plugin, which does not know this pytest.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st

from command_api.app import create_app
from tests.conftest import create_database, database_address, drop_database
from tests.infrastructure import Servers
from tests.integration.command_api.conftest import make_settings
from tests.issuing import bearer

OPERATIONS = [
    "register_user",
    "change_email",
    "verify_email",
    "change_username",
    "change_password",
    "change_profile",
    "deactivate_user",
    "reactivate_user",
    "erase_user",
    "import_users",
    "issue_one_time_token",
    "redeem_one_time_token",
    "verify_credentials",
]
#: Per operation and kind of data; enough to meet every field and header, little enough for every run.
EXAMPLES = 25

#: NUL and unpaired surrogates are refused everywhere, which a schema cannot say.
CONFIG = {
    "generation": {"allow-x00": False, "codec": "utf-8"},
    # No token that a schema can make holds.
    "operations": [
        {
            "include-operation-id": "redeem_one_time_token",
            "checks": {"positive_data_acceptance": {"expected-statuses": ["400", "401"]}},
        }
    ],
}
#: Hypothesis makes addresses at reserved domains too, which email-validator rightly refuses.
schemathesis.openapi.format("idn-email", st.from_regex(r"\A[a-z0-9]{1,20}@[a-z]{1,10}\.example\.com\Z"))
#: Hypothesis does not know the Unicode properties of the pattern.
schemathesis.openapi.format("username", st.from_regex(r"\A[a-z\u00e0-\u00f6]{3,50}\Z"))
#: Hypothesis likes to say a thing twice, but the user's own names are no passwords, which a schema cannot say.
_CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0")
schemathesis.openapi.format("password", st.text(_CHARACTERS, max_size=50).map("a password: {}".format))


@schemathesis.serializer("application/x-ndjson")
def serialize_lines(_: Any, value: Any) -> bytes:
    """Whatever Schemathesis makes, as the only line."""
    return json.dumps(value).encode()


@pytest.fixture(scope="module")
def schema(servers: Servers, templates: dict[str, str]) -> Iterator[Any]:
    """The schema of an app on a database of its own."""
    name = f"contract_{uuid4().hex[:12]}"
    asyncio.run(create_database(servers, name, templates["command"]))
    app = create_app(make_settings(database_address(servers, name), OUTBOX_NOTIFY=False))
    yield schemathesis.openapi.from_asgi("/openapi.json", app, config=schemathesis.Config.from_dict(CONFIG))
    asyncio.run(drop_database(servers, name))


def test_every_operation_is_tried(schema: Any) -> None:
    operations = [result.ok().definition.raw["operationId"] for result in schema.get_all_operations()]

    assert sorted(operations) == sorted(OPERATIONS)


POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_what_the_document_allows_is_accepted_and_answered_as_it_says(schema: Any, operation_id: str) -> None:
    def check(case: Any) -> None:
        assert case.call().status_code == 401, "without a token"
        if "Idempotency-Key" in case.headers:
            # One key for two requests is rightly refused.
            case.headers["Idempotency-Key"] = uuid4().hex
        case.call_and_validate(headers=bearer())

    _try(schema, operation_id, POSITIVE, check)


@pytest.mark.parametrize("operation_id", [name for name in OPERATIONS if name != "import_users"])
def test_what_the_document_forbids_is_refused_as_it_says(schema: Any, operation_id: str) -> None:
    """But an import, which is never wrong as a whole."""

    def check(case: Any) -> None:
        # What is forbidden may lead to another path or method, too, which is no route.
        assert case.call().status_code in {401, 404, 405}, "without a token"
        case.call_and_validate(headers=bearer())

    _try(schema, operation_id, NEGATIVE, check)


def _try(schema: Any, operation_id: str, mode: schemathesis.GenerationMode, check: Callable[[Any], Any]) -> None:
    cases = schema.find_operation_by_id(operation_id).as_strategy(generation_mode=mode)

    @hypothesis.given(case=cases)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def each(case: Any) -> None:
        check(case)

    each()
