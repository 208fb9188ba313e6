"""The console of a whole stack, as a browser without scripts sees it, and ways to stop parts of the stack."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg
import httpx
import psutil

from local_stack.postgres.server import PostgresServer
from tests.acceptance.stack import Stack
from tests.waiting import until

HTTP_SECONDS = 30
#: What the console promises, from the cause to the page.
NAMED_SECONDS = 20
#: A consumer that heard nothing for so long makes itself anew.
WELL_SECONDS = 90
_STATION = re.compile(r'<li class="station (\w+)">\s*<h3>([^<]+)</h3>')


class Overview:
    """The overview, as a browser without scripts sees it."""

    def __init__(self, browser: httpx.AsyncClient) -> None:
        self.browser = browser
        self.page = ""

    async def says(self, words: str, within: float) -> None:
        async def told() -> bool:
            self.page = (await self.browser.get("/")).text
            return words in self.page

        await until(told, within=within, what=f"the overview to say {words}: {self.headline}")

    @property
    def headline(self) -> str:
        found = re.search(r'class="headline">([^<]*)', self.page)
        return found[1] if found else ""

    @property
    def stations(self) -> dict[str, str]:
        return {name: look for look, name in _STATION.findall(self.page)}


@asynccontextmanager
async def signed_in(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A browser of somebody who has pressed a link's button."""
    code, link, error = await stack.muster("console", "link")
    assert code == 0, error
    address = f"http://127.0.0.1:{stack.ports['console']}"
    async with httpx.AsyncClient(base_url=address, timeout=HTTP_SECONDS, follow_redirects=True) as browser:
        button = re.search(r'name="csrf" value="([0-9a-f]+)"', (await browser.get(link.strip())).text)
        assert button is not None
        overview = await browser.post(link.strip(), data={"csrf": button[1]})
        assert "From command to query" in overview.text
        yield browser


@contextmanager
def frozen(stack: Stack, name: str) -> Iterator[None]:
    """A process that hangs."""
    process = psutil.Process(stack.pid(name))
    process.suspend()
    try:
        yield
    finally:
        process.resume()


@asynccontextmanager
async def refusing(stack: Stack, database: str) -> AsyncIterator[None]:
    """A database that lets nobody in; the other one is on the same server."""
    server = PostgresServer(stack.folder / "postgres", stack.ports["postgres"])
    connection = await asyncpg.connect(server.address.dsn("postgres"))
    try:
        await connection.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database)
        yield
    finally:
        await connection.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
        await connection.close()
