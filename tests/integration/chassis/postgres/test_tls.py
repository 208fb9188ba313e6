"""Connections to PostgreSQL are as protected as the settings say, in libpq's words, or there are none."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
import structlog
from structlog.testing import capture_logs

from chassis.outages import Outage
from chassis.postgres.database import Database, DatabaseUnavailableError
from chassis.postgres.listening import Listener
from chassis.postgres.migrations import current_and_head
from chassis.postgres_address.tls import Tls
from chassis.settings import PostgresAddress
from local_stack.ports import LOCALHOST
from tests.certificates import Authority, Pair
from tests.conftest import address_on, database_address
from tests.infrastructure import Servers, throwaway_folder
from tests.integration.chassis.postgres.tls_servers import InstalledPostgres, ending_tls, installed_binaries
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Leads to the same server, and is not in its certificate.
OTHER_NAME = "localhost"
WRONG_NAME = "certificate is refused: .*mismatch, certificate is not valid for 'localhost'"
UNTRUSTED = "certificate is refused: unable to get local issuer certificate"


class Files(NamedTuple):
    """What is in one folder, as PostgreSQL's user can read it."""

    authority: Authority
    stranger: Authority
    server: Pair
    #: For a name, and no address.
    named: Pair
    client: Pair

    def tls(self, mode: Any, *, trusting: str = "") -> Tls:
        """Settings that trust one of the authorities, or none."""
        trusted = {"authority": str(self.authority.file), "stranger": str(self.stranger.file), "": None}
        return Tls(sslmode=mode, sslrootcert=trusted.get(trusting, trusting))


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    folder = throwaway_folder()
    authority, stranger = Authority(folder), Authority(folder, "stranger")
    server, named = authority.sign("server", LOCALHOST), authority.sign("named", OTHER_NAME)
    yield Files(authority, stranger, server, named, authority.sign("client"))
    shutil.rmtree(folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["proxy", "installed"])
async def secured(request: pytest.FixtureRequest, servers: Servers, files: Files) -> AsyncIterator[PostgresAddress]:
    """A server that takes nobody without TLS, its certificate for 127.0.0.1."""
    if request.param == "proxy":
        async with ending_tls(database_address(servers, "postgres"), files.server) as address:
            yield address
        return
    binaries = installed_binaries()
    if binaries is None:
        pytest.skip("NO PostgreSQL WITH TLS IS INSTALLED here: TLS was tried through a proxy alone")
    folder = throwaway_folder()
    async with InstalledPostgres(folder / "postgres", binaries, files.server) as server:
        yield address_on(server.address, "postgres")
    shutil.rmtree(folder)


async def ask(address: PostgresAddress, tls: Tls) -> None:
    async with Database.open(replace(address, tls=tls), application="tls") as database:
        await database.check()


@pytest.mark.parametrize(
    ("mode", "trusting", "host"),
    [
        ("allow", "", LOCALHOST),
        ("prefer", "", LOCALHOST),
        ("require", "", OTHER_NAME),
        ("require", "authority", OTHER_NAME),
        ("verify-ca", "authority", OTHER_NAME),
        ("verify-full", "authority", LOCALHOST),
    ],
)
async def test_a_mode_lets_through_what_libpq_would(
    secured: PostgresAddress, files: Files, mode: str, trusting: str, host: str
) -> None:
    await ask(replace(secured, server=host), files.tls(mode, trusting=trusting))


@pytest.mark.parametrize(
    ("mode", "trusting", "why"),
    [
        ("disable", "", "no encryption"),
        ("require", "stranger", UNTRUSTED),
        ("verify-ca", "stranger", UNTRUSTED),
        ("verify-full", "stranger", UNTRUSTED),
        ("verify-full", "authority", WRONG_NAME),
        ("verify-full", "system", UNTRUSTED),
    ],
)
async def test_a_mode_refuses_what_libpq_would_and_says_why(
    secured: PostgresAddress, files: Files, mode: str, trusting: str, why: str
) -> None:
    with pytest.raises(DatabaseUnavailableError, match=why):
        await ask(replace(secured, server=OTHER_NAME), files.tls(mode, trusting=trusting))


async def test_a_server_without_tls_is_refused_where_tls_is_required(servers: Servers) -> None:
    with pytest.raises(DatabaseUnavailableError, match="rejected SSL upgrade"):
        await ask(database_address(servers, "postgres"), Tls(sslmode="require"))


async def test_the_systems_authorities_are_those_of_openssl(
    servers: Servers, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(files.authority.file))

    async with ending_tls(database_address(servers, "postgres"), files.server) as address:
        await ask(address, files.tls("verify-full", trusting="system"))
        with pytest.raises(DatabaseUnavailableError, match=WRONG_NAME):
            await ask(replace(address, server=OTHER_NAME), files.tls("verify-full", trusting="system"))


@pytest.mark.parametrize("trusting", ["authority", "system"])
async def test_a_name_is_proven_as_an_address_is(
    servers: Servers, files: Files, monkeypatch: pytest.MonkeyPatch, trusting: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(files.authority.file))
    tls = files.tls("verify-full", trusting=trusting)

    async with ending_tls(database_address(servers, "postgres"), files.named) as address:
        await ask(replace(address, server=OTHER_NAME), tls)
        with pytest.raises(DatabaseUnavailableError, match=r"certificate is not valid for '127\.0\.0\.1'"):
            await ask(replace(address, server=LOCALHOST), tls)


@pytest.mark.parametrize("trusting", ["authority", "system"])
async def test_a_server_that_wants_a_certificate_is_shown_ours(
    servers: Servers, files: Files, monkeypatch: pytest.MonkeyPatch, trusting: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(files.authority.file))
    without = files.tls("verify-full", trusting=trusting)
    ours = replace(without, sslcert=str(files.client.certificate), sslkey=str(files.client.key))

    async with ending_tls(database_address(servers, "postgres"), files.server, files.authority.file) as address:
        await ask(address, ours)
        with pytest.raises(DatabaseUnavailableError):
            await ask(address, without)


async def test_migrations_and_listeners_hold_to_the_settings_too(servers: Servers, files: Files) -> None:
    async with ending_tls(database_address(servers, "postgres"), files.server) as address:
        right = replace(address, tls=files.tls("verify-full", trusting="authority"))
        wrong = replace(right, server=OTHER_NAME)

        assert (await asyncio.to_thread(current_and_head, "command_api:migrations", right))[0] is None
        with pytest.raises(OSError, match="certificate is not valid for 'localhost'"):
            await asyncio.to_thread(current_and_head, "command_api:migrations", wrong)
        assert await reasons(right) == []
        [reason] = await reasons(wrong)
        assert "certificate is not valid for 'localhost'" in reason


async def reasons(address: PostgresAddress) -> list[str]:
    """What a listener logs until it has either connected or failed."""
    outage = Outage(structlog.get_logger("test"), "listening.interrupted")
    listener = Listener(address, {"moved": print}, application="tls", outage=outage)

    async def tried() -> bool:
        return listener.connected or bool(lines)

    with capture_logs() as lines:
        async with listener.listen():
            await until(tried, within=20, what="the first try")
    return [line["reason"] for line in lines]
