"""Members of a search have the JSON type that the parameter's schema names."""

import json
from typing import Any

import pytest

from chassis.http.problems import Problem
from query_api.protocol.parameters import Parameter, Parameters, choice, text, whole_number
from query_api.users.search import read_members

KNOWN = Parameters(
    tuple(
        Parameter(name=name, read=read, schema={"type": type_}, description="", example=None)
        for name, read, type_ in (
            ("email_verified", choice("true", "false"), "boolean"),
            ("limit", whole_number(least=1, most=200), "integer"),
            ("email", text(longest=254), "string"),
        )
    )
)


def read(**members: Any) -> dict[str, Any]:
    return read_members(json.dumps(members).encode(), KNOWN)


def test_each_type_is_read_as_the_query_string_would_have_it() -> None:
    assert read(email_verified=True, limit=5, email="a@b.c") == {"email_verified": "true", "limit": 5, "email": "a@b.c"}
    assert read(email_verified=False) == {"email_verified": "false"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("email_verified", "true", "must be true or false"),
        ("email_verified", 1, "must be true or false"),
        ("limit", True, "must be a whole number"),
        ("limit", "5", "must be a whole number"),
        ("email", 5, "must be a text"),
    ],
)
def test_another_type_is_refused_with_its_member(name: str, value: Any, said: str) -> None:
    with pytest.raises(Problem) as refused:
        read(**{name: value})

    assert refused.value.errors == [{"detail": said, "pointer": f"#/{name}"}]
