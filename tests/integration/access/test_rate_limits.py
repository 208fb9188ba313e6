"""Each class of requests is limited on each API that has it, by caller, or by address where access is switched off."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from chassis.settings import Kafka, PostgresAddress, Topics
from cli.access.scopes import SCOPES
from command_api.access import ACCESS as COMMAND
from command_api.app import create_app as create_command_api
from event_api.access import ACCESS as EVENTS
from event_api.app import create_app as create_event_api
from query_api.access import ACCESS as QUERY
from query_api.app import create_app as create_query_api
from tests.integration.command_api.conftest import make_settings as command_settings
from tests.integration.event_api.conftest import make_settings as event_settings
from tests.integration.query_api.conftest import client_of, is_ready
from tests.integration.query_api.conftest import make_settings as query_settings
from tests.issuing import bearer
from tests.waiting import until

NOBODY: Final = dict.fromkeys(("AUTH_ISSUER", "AUTH_AUDIENCE", "AUTH_JWKS_FILE"))
MakeApp = Callable[..., FastAPI]


@dataclass(frozen=True)
class Case:
    """A class of requests on an API: its setting, and a request of it, whatever that is answered."""

    api: str
    limit: str
    setting: str
    method: str
    path: str
    body: Any = None


CASES: Final = (
    Case("command", "commands", "RATE_LIMIT_COMMANDS", "POST", "/users", {"email": 7}),
    Case("command", "imports", "RATE_LIMIT_IMPORTS", "POST", "/users/import", {}),
    Case("query", "reads", "RATE_LIMIT_READS", "GET", "/users"),
    Case("query", "reads", "RATE_LIMIT_READS", "POST", "/users/search", {}),
    Case("events", "reads", "RATE_LIMIT_READS", "GET", "/subscribers"),
    Case("events", "reads", "RATE_LIMIT_READS", "GET", "/events"),
)
IDS: Final = [f"{case.limit} {case.path}" for case in CASES]
TABLES: Final = {"command": COMMAND, "query": QUERY, "events": EVENTS}


@pytest.fixture
def make(
    kafka: Kafka, topics: Topics, command_database: PostgresAddress, query_database: PostgresAddress
) -> dict[str, MakeApp]:
    """By API what makes it, told more by the variables' names."""
    return {
        "command": lambda **more: create_command_api(command_settings(command_database, **more)),
        "query": lambda **more: create_query_api(query_settings(query_database, **more)),
        "events": lambda **more: create_event_api(event_settings(kafka, topics, query_database, **more)),
    }


@asynccontextmanager
async def clients(app: FastAPI, *headers: dict[str, str], addresses: int = 1) -> AsyncIterator[list[httpx.AsyncClient]]:
    """A client with each of the headers, from each of so many addresses."""
    async with app.router.lifespan_context(app), client_of(app) as asking, AsyncExitStack() as stack:
        asking.base_url = httpx.URL("http://127.0.0.1")
        await until(lambda: is_ready(asking), within=20, what="the API is ready")
        yield [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(app, client=(f"127.0.0.{number + 1}", 5)),
                    base_url="http://127.0.0.1",
                    headers={"Accept": "application/json", **each},
                )
            )
            for each in headers
            for number in range(addresses)
        ]


def refused(limit: str) -> float:
    return REGISTRY.get_sample_value("muster_rate_limited_total", {"limit": limit}) or 0.0


async def assert_limited(case: Case, callers: list[httpx.AsyncClient]) -> None:
    """Two requests of each caller's go through, the third is refused with all that it needs to know."""
    before = refused(case.limit)
    for caller in callers:
        answers = [await caller.request(case.method, case.path, json=case.body) for _ in range(3)]
        assert [answer.status_code == 429 for answer in answers] == [False, False, True], case
        last = answers[-1]
        assert last.json()["type"] == "/problems/too-many-requests"
        seconds = int(last.headers["retry-after"])
        assert 1 <= seconds <= 30
        assert last.headers["ratelimit-policy"] == f'"{case.limit}";q=2;w=60'
        assert last.headers["ratelimit"] == f'"{case.limit}";r=0;t={seconds}'
    assert refused(case.limit) - before == len(callers)


def test_there_is_a_case_for_every_class_of_every_api_that_has_a_setting() -> None:
    limits = {(name, rule.limit) for name, table in TABLES.items() for rule in table}

    # `self` has a test of its own (test_command_api.py), and verification counters of its own.
    assert {(case.api, case.limit) for case in CASES} == limits - {("command", "verify")}


@pytest.mark.parametrize("case", CASES, ids=IDS)
async def test_each_caller_has_its_own_count_whatever_its_address(case: Case, make: dict[str, MakeApp]) -> None:
    shop, till = bearer("shop", SCOPES), bearer("till", SCOPES)
    helped = bearer("shop", SCOPES, act={"sub": "support"})
    async with clients(make[case.api](**{case.setting: "2/min"}), shop, till, helped) as callers:
        await assert_limited(case, callers)
        elsewhere = await callers[0].request(case.method, case.path, json=case.body, headers=bearer("shop", SCOPES))
        assert elsewhere.status_code == 429, "another token of the same caller's"


@pytest.mark.parametrize("case", CASES, ids=IDS)
async def test_with_access_switched_off_each_address_has(case: Case, make: dict[str, MakeApp]) -> None:
    app = make[case.api](**NOBODY, AUTH_DISABLED=True, **{case.setting: "2/min"})
    async with clients(app, {}, addresses=2) as callers:
        await assert_limited(case, callers)


async def test_one_class_does_not_count_for_another(make: dict[str, MakeApp]) -> None:
    app = make["command"](RATE_LIMIT_COMMANDS="1/min", RATE_LIMIT_IMPORTS="1/min")
    async with clients(app, bearer("shop", SCOPES)) as (caller,):
        paths = ("/users", "/users", "/users/import", "/users/import", "/credentials/verify", "/credentials/verify")
        statuses = [(await caller.post(path, json={})).status_code for path in paths]

    assert [status == 429 for status in statuses] == [False, True, False, True, False, False]
