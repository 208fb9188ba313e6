"""PostgreSQL with TLS: the shared server behind a proxy that ends it, and one that is installed on this machine.

The embedded server is built without TLS. Both refuse whoever comes without it.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import asyncpg

from chassis.settings import PostgresAddress
from local_stack.ports import LOCALHOST
from local_stack.postgres.server import PostgresServer
from local_stack.postgres.unprivileged import unprivileged_account
from local_stack.processes.child import run_once
from tests.certificates import Pair

#: SSLRequest: its length and its code (PostgreSQL's documentation, "Message Formats").
SSL_REQUEST = bytes.fromhex("0000000804d2162f")
_WITHOUT_TLS = b"SFATAL\0VFATAL\0C28000\0Mno encryption\0\0"
_CHUNK = 1 << 16

INITDB_SECONDS = 60.0


@asynccontextmanager
async def ending_tls(
    target: PostgresAddress, server: Pair, clients: Path | None = None
) -> AsyncIterator[PostgresAddress]:
    """A proxy before a server without TLS; with `clients` it wants a certificate signed by that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*server)
    if clients:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    passing: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        passing.add(task)
        with suppress(OSError):  # a client that turns away, as one does who does not trust the certificate
            await _serve(reader, writer, context, target)
        writer.close()

    listening = await asyncio.start_server(accept, LOCALHOST, 0)
    try:
        yield replace(target, server=LOCALHOST, port=listening.sockets[0].getsockname()[1])
    finally:
        listening.close()
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)


async def _serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext, target: PostgresAddress
) -> None:
    if await reader.readexactly(len(SSL_REQUEST)) != SSL_REQUEST:
        writer.write(b"E" + (len(_WITHOUT_TLS) + 4).to_bytes(4) + _WITHOUT_TLS)
        return
    writer.write(b"S")
    await writer.start_tls(context)
    server_reader, server_writer = await asyncio.open_connection(target.server, target.port)
    try:
        await asyncio.gather(_pass(reader, server_writer), _pass(server_reader, writer))
    finally:
        server_writer.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    writer.close()


def installed_binaries() -> Path | None:
    """The programs of the newest PostgreSQL that the system's packages brought; those are built with TLS."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class InstalledPostgres(PostgresServer):
    """A server of the system's own PostgreSQL that takes nobody without TLS."""

    def __init__(self, folder: Path, binaries: Path, pair: Pair) -> None:
        account = unprivileged_account()
        for file in pair:
            if account:
                os.chown(file, account.uid, account.gid)
        files = {"ssl_cert_file": str(pair.certificate), "ssl_key_file": str(pair.key)}
        super().__init__(folder, durable=False, settings={"ssl": "on", **files})
        self._installed = binaries

    async def prepare(self) -> None:
        """Initialise the cluster, and let in by TLS alone."""
        await super().prepare()
        self._binaries = self._installed
        (self.data_folder / "pg_hba.conf").write_text("hostssl all all all scram-sha-256\n", encoding="ascii")

    async def is_ready(self) -> bool:
        """Tell whether it answers, with TLS."""
        try:
            connection = await asyncpg.connect(self.address.dsn("postgres"), ssl="require")
        except (OSError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True

    async def _run_initdb(self, data: Path, password_file: Path) -> None:
        options = (
            "-D",
            str(data),
            "-U",
            "muster",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            f"--pwfile={password_file}",
        )
        command = [str(self._installed / "initdb"), *options]
        await run_once(
            command, environment={}, folder=Path("/"), account=self._account, log=self.log, within=INITDB_SECONDS
        )
