"""Base backups, an archive of the log, and servers that are restored from both, as docs/how-to/back-up.md has it.

`pg_basebackup` is PostgreSQL's own; the embedded one's `pg_verifybackup` ends with a SIGSEGV, whatever it is told, so
only the restore looks at the copy. The archive is a folder on the same disk; elsewhere it is a store of its own, and
`archive_command` a tool that has checked what it wrote.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from local_stack.ports import LOCALHOST
from local_stack.postgres.data import new_cluster
from local_stack.postgres.server import PostgresServer, clean_environment
from local_stack.postgres.unprivileged import give_folder
from local_stack.processes.child import describe_exit, run_once
from tests.waiting import until

#: A gigabyte takes seconds.
COPY_SECONDS: Final = 600.0
ARCHIVE_SECONDS: Final = 120.0
#: The log since the backup is replayed first.
RECOVERY_SECONDS: Final = 600.0


class Server(PostgresServer):
    """A server whose superuser's password is given, so that both of an installation have one."""

    def __init__(self, folder: Path, password: str, port: int | None = None, *, settings: Mapping[str, str]) -> None:
        super().__init__(folder, port, settings=settings)
        self._given = password

    def _password(self) -> str:
        return self._given


class Store:
    """Where base backups and the archive are; both outlive their server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made = 0

    @property
    def archiving(self) -> dict[str, str]:
        """The settings of a server that archives here; it needs the folder once something is to be archived."""
        place = f"{self.folder}/archive/%f"
        command = f"test ! -f {place} && cp %p {place}.part && mv {place}.part {place}"
        return {"archive_mode": "on", "archive_command": command}

    def restoring(self, until: datetime) -> dict[str, str]:
        """The settings of a server that is restored to a time."""
        return {
            "restore_command": f"cp {self.folder}/archive/%f %p",
            "recovery_target_time": until.isoformat(),
            "recovery_target_action": "promote",
        }

    async def prepare(self, server: Server) -> None:
        """Make the folders; the server has been started, so that it is known whom they belong to."""
        if account := server.account():
            give_folder(self.folder, account)
        await _run(server, "/bin/mkdir", "-p", str(self.folder / "archive"))

    async def back_up(self, server: Server) -> Path:
        """Take a base backup, and return its folder."""
        self._made += 1
        backup = self.folder / f"base-{self._made}"
        source = f"host={LOCALHOST} port={server.port} user={server.address.user}"
        options = ("--checkpoint", "fast", "--wal-method", "stream")
        await _run(
            server, str(server._binaries / "pg_basebackup"), "--pgdata", str(backup), "--dbname", source, *options
        )
        return backup

    async def moment(self, server: Server) -> datetime:
        """The server's time, to which it can be restored once more was committed and archived."""
        now = await server.execute("SELECT clock_timestamp()")
        assert isinstance(now, datetime)
        return now

    async def archive(self, server: Server) -> None:
        """Have the log archived up to now, as `archive_timeout` does after a while."""
        current = await server.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
        await server.execute("SELECT pg_switch_wal()::text")

        async def is_archived() -> object:
            return await server.execute(f"SELECT last_archived_wal >= '{current}' COLLATE \"C\" FROM pg_stat_archiver")

        await until(is_archived, within=ARCHIVE_SECONDS, what="the log to be archived")


class RestoredServer(Server):
    """What was backed up, with the archive replayed up to a time; ready once it takes commands again."""

    ready_within = RECOVERY_SECONDS

    def __init__(  # noqa: PLR0917 - each is a property of the server
        self,
        lost: Server,
        folder: Path,
        store: Store,
        backup: Path,
        until: datetime,
        settings: Mapping[str, str],
    ) -> None:
        told = {**settings, **store.archiving, **store.restoring(until)}
        super().__init__(folder, lost.address.password, lost.port, settings=told)
        self._backup = backup

    async def is_ready(self) -> bool:
        """Tell whether recovery is over; before that it answers reads."""
        return await super().is_ready() and await self.execute("SELECT pg_is_in_recovery()") is False

    async def _initialise(self) -> None:
        with new_cluster(self.data_folder, self._account) as data:
            script = 'cp -a "$1/." "$2" && touch "$2/recovery.signal"'
            await _run(self, "/bin/sh", "-c", script, "restore", str(self._backup), str(data))


async def _run(server: PostgresServer, *command: str) -> None:
    """Run a program as the server's own user."""
    code = await run_once(
        list(command),
        # Not among the arguments, which everybody on the machine can see.
        environment={**clean_environment(), "PGPASSWORD": server.address.password},
        folder=Path("/"),
        account=server.account(),
        log=server.log,
        within=COPY_SECONDS,
    )
    if code != 0:
        raise server.failed(f"{Path(command[0]).name} did not do its work ({describe_exit(code)})")
