"""What the OpenAPI document says of a value fits what is taken."""

from typing import Any

import jsonschema_rs
import pytest
from pydantic import TypeAdapter

from command_api.http.openapi import request
from command_api.users.values import Email

IF_MATCH = next(each for each in request(if_match=True)["parameters"] if each["name"] == "If-Match")["schema"]


def documented(schema: dict[str, Any], value: str) -> bool:
    return bool(jsonschema_rs.Draft202012Validator(schema, validate_formats=True).is_valid(value))


@pytest.mark.parametrize("address", ["ann@example.com", "ä@example.com", "ann@münchen.de", "ann@xn--mnchen-3ya.de"])
def test_every_address_that_is_taken_is_one_for_the_document(address: str) -> None:
    email = TypeAdapter(Email)
    email.validate_python(address)

    assert documented(email.json_schema(), address)


@pytest.mark.parametrize("header", ['"3"', '"3", "4"', '"3.1"', '"3.anything"', 'W/"3"', "*", '""', '"\xe4"'])
def test_every_list_of_versions_is_one_for_the_document(header: str) -> None:
    assert documented(IF_MATCH, header)


@pytest.mark.parametrize("header", ["3", '"3', '"3" "4"', "", '*, "3"', '"a b"'])
def test_what_is_no_list_of_versions_is_none_for_the_document(header: str) -> None:
    assert not documented(IF_MATCH, header)
