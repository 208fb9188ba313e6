"""The OpenAPI document is built by hand: these tests hold it to the routes, the parameters and the problems."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.routing import Route

from chassis.http.api import SHARED_PROBLEMS
from query_api import openapi
from query_api.app import create_app
from query_api.dependencies import QUERIES
from query_api.protocol.problems import QUERY_PROBLEMS
from query_api.settings import QueryApiSettings
from query_api.users.detail import UserDetail

SETTINGS = QueryApiSettings(
    _env_file=None,
    QUERY_POSTGRES_USER="u",
    QUERY_POSTGRES_PASSWORD="p",
    QUERY_POSTGRES_SERVER="s",
    QUERY_POSTGRES_DB="d",
    AUTH_DISABLED=True,
    CURSOR_KEYS="k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
)
#: Pages for people, and the document itself.
PAGES = {"/", "/openapi.json", "/docs", "/redoc", "/problems/", "/problems/{slug}"}
ASSETS = {"/docs/start.js", "/static-offline-docs/redoc.standalone.js"}


@pytest.fixture
def app() -> FastAPI:
    return create_app(SETTINGS)


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def responses(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for operation in item.values():
            for status, response in operation["responses"].items():
                yield path, status, response


def test_every_route_is_declared_and_nothing_else(app: FastAPI, document: dict[str, Any]) -> None:
    routes = {route.path for route in app.router.routes if isinstance(route, Route)}

    assert routes - PAGES - ASSETS == set(document["paths"])


@pytest.mark.parametrize("query", QUERIES)
def test_every_parameter_that_is_read_is_declared(query: Any, document: dict[str, Any]) -> None:
    declared = document["paths"][query.path][query.method.lower()]["parameters"]

    assert [p["name"] for p in declared if p["in"] == "query"] == [p.name for p in query.parameters.known]
    assert {"Consistency-Token", "Prefer", "X-Request-Id"} <= {p["name"] for p in declared if p["in"] == "header"}
    assert [p["name"] for p in declared if p["in"] == "path"] == re.findall(r"{(\w+)}", query.path)
    assert all("example" in p or p["schema"]["examples"] for p in declared)
    assert all(p["description"] for p in declared)


@pytest.mark.parametrize("query", QUERIES)
def test_the_example_of_a_parameter_can_be_read(query: Any) -> None:
    for parameter in query.parameters.known:
        assert parameter.read(str(parameter.example)) is not None


def test_every_problem_type_is_declared_somewhere(document: dict[str, Any]) -> None:
    # Another method is not one of its operations, and a preflight is none either.
    elsewhere = {"method-not-allowed", "http-error", "cors-refused"}
    declared = {
        slug
        for _, _, response in responses(document)
        for slug in response.get("content", {}).get("application/problem+json", {}).get("examples", {})
    }

    assert declared == {kind.slug for kind in SHARED_PROBLEMS + QUERY_PROBLEMS} - elsewhere


def test_every_answer_has_headers_and_an_example(document: dict[str, Any]) -> None:
    for path, status, response in responses(document):
        assert "X-Request-Id" in response["headers"], (path, status)
        for content in response.get("content", {}).values():
            assert "example" in content or "examples" in content, (path, status)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    for reference in walk(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


def test_the_detail_declares_what_a_client_needs_to_revalidate(document: dict[str, Any]) -> None:
    operation = document["paths"][UserDetail.path]["get"]

    assert "If-None-Match" in [p["name"] for p in operation["parameters"]]
    assert {"ETag", "Consistency-Token", "As-Of"} <= set(operation["responses"]["304"]["headers"])


def test_the_document_is_the_same_for_every_call() -> None:
    assert openapi.build(title="t", summary="s") == openapi.build(title="t", summary="s")
