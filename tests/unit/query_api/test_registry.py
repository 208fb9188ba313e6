"""Names what was forgotten when a query was added; for a projection, see tests/unit/read_model/test_catalogue.py."""

import pkgutil
from importlib import import_module

import pytest

import query_api.users
from query_api import openapi
from query_api.dependencies import QUERIES, Query
from read_model.catalogue import SCHEMAS


def written_queries() -> list[type]:
    """The classes in query_api/users that answer at a path."""
    modules = [
        import_module(f"query_api.users.{module.name}") for module in pkgutil.iter_modules(query_api.users.__path__)
    ]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and {"path", "answer"} <= set(vars(value))
    ]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_declared_projection_is_read_by_a_query(name: str) -> None:
    assert name in {query.projection for query in QUERIES}, f"no query in query_api/users reads {name!r}"


@pytest.mark.parametrize("query", written_queries())
def test_every_query_is_registered(query: type) -> None:
    assert query in QUERIES, f"{query.__name__} is missing in QUERIES of query_api/dependencies.py"


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_reads_a_declared_projection_and_is_described(query: type[Query]) -> None:
    assert query.projection in SCHEMAS
    document = openapi.build(title="t", summary="s")
    assert query.path in document["paths"], f"{query.__name__} is missing in query_api/openapi.py"
