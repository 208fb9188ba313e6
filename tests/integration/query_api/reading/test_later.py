"""What PostgreSQL says with "later" is answered with 503 and Retry-After, or not at all: whichever statement met it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from chassis.consistency import ConsistencyToken
from chassis.settings import PostgresAddress
from events.user_events import PublicUser
from query_api.app import create_app
from tests.integration.query_api.conftest import make_settings, serving
from tests.integration.query_api.read_side import ReadSide, person
from tests.servers.refusing_proxy import LATER, RefusingProxy

#: More than any query has.
STATEMENTS = 20
#: A statement limit of ours, which only some queries have.
CANCELLED = "57014"
TOO_EXPENSIVE = {"/problems/query-too-expensive", "/problems/count-too-expensive"}

QUERIES: dict[str, Callable[[PublicUser], dict[str, Any]]] = {
    "list": lambda _: {"url": "/users"},
    "list with a filter and a count": lambda ann: {
        "url": "/users",
        "params": {"email": ann.email},
        "headers": {"Prefer": "count=exact"},
    },
    "list of ids": lambda ann: {"url": "/users", "params": {"id": str(ann.id)}},
    "search": lambda ann: {"method": "POST", "url": "/users/search", "json": {"username": ann.username}},
    "user": lambda ann: {"url": f"/users/{ann.id}"},
    "user of a token": lambda ann: {
        "url": f"/users/{ann.id}",
        "headers": {"Consistency-Token": ConsistencyToken(ann.id, ann.version).encode()},
    },
    "timeline": lambda ann: {"url": f"/users/{ann.id}/timeline"},
    "signups": lambda _: {"url": "/stats/signups"},
}


@pytest.fixture
async def proxy(query_database: PostgresAddress) -> AsyncIterator[RefusingProxy]:
    async with RefusingProxy(query_database).listening() as listening:
        yield listening


@pytest.mark.parametrize("name", QUERIES)
async def test_whatever_means_later_at_whichever_statement_is_retried_or_answered_503(
    proxy: RefusingProxy, read_side: ReadSide, name: str
) -> None:
    ann, refused = person(), 0
    await read_side.register(ann)
    request = {"method": "GET", **QUERIES[name](ann)}
    async with serving(create_app(make_settings(proxy.address))) as api:
        for state in LATER:
            for statement in range(1, STATEMENTS):
                proxy.refuse(statement, state)
                answer = await api.request(**request)
                if not proxy.has_refused:
                    break
                refused += 1
                assert_later(answer, state, f"{state} at statement {statement} of {name}")
            else:
                raise AssertionError(f"{name} has no end")
        assert (await api.request(**request)).status_code == 200
    assert refused >= len(LATER)


def assert_later(answer: httpx.Response, state: str, where: str) -> None:
    """The answer is none, or that the query may be sent again."""
    assert answer.status_code in {200, 503}, where
    if answer.status_code == 503:
        kinds = {"/problems/unavailable", *(TOO_EXPENSIVE if state == CANCELLED else ())}
        assert answer.json()["type"] in kinds, where
        assert "retry-after" in answer.headers, where
