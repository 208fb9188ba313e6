"""The console inside the test's own loop, on databases of its own, beside both APIs, which it reaches as clients do."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from chassis.clock import utc_now
from chassis.postgres.database import connect, disconnect
from chassis.postgres.roles import OPERATOR
from chassis.settings import PostgresAddress
from cli.access.scopes import SCOPES
from command_api.app import create_app as create_command_api
from console.apis import Apis
from console.app import create_app
from console.settings import ConsoleSettings
from console.sign_in.links import make_link
from console.users import detail
from query_api.app import create_app as create_query_api
from tests import issuing
from tests.databases import as_role
from tests.integration.command_api import conftest as commands
from tests.integration.query_api import conftest as queries
from tests.integration.query_api.read_side import ReadSide
from tests.waiting import until

SECRET = "a secret of thirty-two characters"
#: Nobody listens there; what the overview makes of it is for its own tests.
NOWHERE = "http://127.0.0.1:1"


def make_settings(command: PostgresAddress, query: PostgresAddress, **more: Any) -> ConsoleSettings:
    """Settings for two databases; more are given by their variables' names."""
    command, query = as_role(command, OPERATOR), as_role(query, OPERATOR)
    values = {
        "OPERATOR_POSTGRES_USER": query.user,
        "OPERATOR_POSTGRES_PASSWORD": query.password.get_secret_value(),
        "POSTGRES_SERVER": query.server,
        "POSTGRES_PORT": query.port,
        "COMMAND_POSTGRES_DB": command.database,
        "QUERY_POSTGRES_DB": query.database,
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "CONSOLE_SECRET": SECRET,
        **{f"CONSOLE_{api}_URL": NOWHERE for api in ("COMMAND", "QUERY", "EVENTS")},
        **{f"CONSOLE_{api}_OPS_URL": NOWHERE for api in ("COMMAND", "QUERY", "EVENTS")},
        "RELAY_HTTP_PORT": 1,
        "PROJECTORS_HTTP_PORT": 1,
        **issuing.auth(),
        **more,
    }
    return ConsoleSettings(_env_file=None, **values)


@dataclass(slots=True)
class Browser:
    """A browser without scripts: it keeps cookies, and sends forms with the token that the page has."""

    http: httpx.AsyncClient

    async def get(self, path: str) -> httpx.Response:
        return await self.http.get(path, follow_redirects=True)

    async def sign_in(self, link: str) -> httpx.Response:
        """Open a link and press its button."""
        page = await self.http.get(link)
        return await self.http.post(link, data={"csrf": _token(page.text)})

    async def send(self, path: str, *, page: str = "/operations", **fields: str) -> httpx.Response:
        """Send a form of a page."""
        token = _token((await self.get(page)).text)
        return await self.http.post(path, data={"csrf": token, **fields}, follow_redirects=True)


def _token(page: str) -> str:
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
    assert token is not None, page
    return token[1]


@dataclass(slots=True)
class Console:
    """The console, and who may sign in to it."""

    app: Starlette
    query: PostgresAddress

    async def link(self, *scopes: str, subject: str = "operator", lifetime: timedelta = timedelta(hours=8)) -> str:
        """The path of a link for these scopes, or all."""
        token = issuing.token(subject, scopes or SCOPES, lifetime=lifetime)
        connection = await connect(as_role(self.query, OPERATOR), application="test")
        try:
            return await make_link(connection, [SECRET], token, address="", now=utc_now())
        finally:
            await disconnect(connection)

    @asynccontextmanager
    async def browser(self, scheme: str = "http") -> AsyncIterator[Browser]:
        """One that has not signed in."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://localhost", timeout=30) as http:
            yield Browser(http)

    @asynccontextmanager
    async def signed_in(self, *scopes: str, subject: str = "operator") -> AsyncIterator[Browser]:
        """One that has."""
        async with self.browser() as browser:
            answer = await browser.sign_in(await self.link(*scopes, subject=subject))
            assert answer.status_code == 303, answer.text
            yield browser


@asynccontextmanager
async def serving(settings: ConsoleSettings, query: PostgresAddress) -> AsyncIterator[Console]:
    """A console, ready, while its lifespan lasts."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        console = Console(app, query)
        async with console.browser() as browser:

            async def ready() -> bool:
                return (await browser.http.get("/readyz")).status_code == 200

            await until(ready, within=10, what="the console is ready")
        yield console


@pytest.fixture
async def console(command_database: PostgresAddress, query_database: PostgresAddress) -> AsyncIterator[Console]:
    """A console whose APIs are away."""
    async with serving(make_settings(command_database, query_database), query_database) as console:
        yield console


@pytest.fixture
async def desk(
    console: Console,
    command_database: PostgresAddress,
    query_database: PostgresAddress,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Console]:
    """The same beside both APIs; nobody follows the events, so no page waits for them."""
    monkeypatch.setattr(detail, "WAIT_SECONDS", 0)
    command_api = create_command_api(commands.make_settings(command_database))
    query_api = create_query_api(queries.make_settings(query_database))
    async with commands.serving(command_api) as command, queries.serving(query_api) as query:
        console.app.state.apis = Apis(command, query, console.app.state.apis._events)
        yield console


@pytest.fixture
async def read_side(query_database: PostgresAddress) -> AsyncIterator[ReadSide]:
    """What a projectors process would write."""
    connection = await connect(query_database, application="test")
    yield ReadSide(connection)
    await disconnect(connection)
