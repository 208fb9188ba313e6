"""A hot standby of a local server: a copy that follows the log, answers reads, and can be promoted.

After `follow` each commit of the primary waits until the standby has it on disk, so a failover loses nothing that was
acknowledged. While the standby is away, commits wait, as in production.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from local_stack.errors import LocalStackError
from local_stack.ports import LOCALHOST
from local_stack.postgres.data import has_cluster, new_cluster, remove_cluster
from local_stack.postgres.server import PostgresServer, clean_environment, end_orphan
from local_stack.processes.child import describe_exit, run_once

#: The name by which a primary knows it (`application_name`).
NAME = "standby"
#: Copying a small cluster takes a second, after a checkpoint.
COPY_SECONDS = 120.0
PROMOTION_SECONDS = 30
#: A standby that ran before catches up at once, unless what it missed is gone.
FOLLOWING_SECONDS = 30.0
FOLLOWING_POLL_SECONDS = 0.05


class PostgresStandby(PostgresServer):
    """The standby of one primary, which must run at the standby's first start."""

    def __init__(  # noqa: PLR0913 - each is a property of the server
        self,
        folder: Path,
        primary: PostgresServer,
        port: int | None = None,
        *,
        durable: bool = True,
        log: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, port, durable=durable, log=log, settings=settings)
        self.name = "postgres-standby"
        self._primary = primary

    async def prepare(self) -> None:
        """Make the copy where there is none, and prepare as a server does.

        Raises:
            LocalStackError: it was promoted since, so it is a standby no longer.
        """
        await super().prepare()
        await asyncio.to_thread(_require_copy, self.folder)

    async def follow(self) -> None:
        """Make each commit of the primary wait for this standby, which must run."""
        await self._primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
        await self._primary.execute("SELECT pg_reload_conf()")

    async def is_followed(self) -> bool:
        """Tell whether the primary's commits wait for this standby, and it is there."""
        # It has one standby.
        return await self._primary.execute("SELECT sync_state FROM pg_stat_replication") == "sync"

    async def is_fed(self) -> bool:
        """Tell whether it has all that the primary had, and receives what comes."""
        return await self._primary.execute("SELECT state FROM pg_stat_replication") == "streaming"

    async def until_it_follows(self, *, synchronous: bool) -> None:
        """Return once it receives what its primary writes; if `synchronous`, commits wait for it from then on.

        Raises:
            ChildFailedError: it did not catch up, as after a long absence.
        """
        if synchronous:
            await self.follow()
        arrived = self.is_followed if synchronous else self.is_fed
        try:
            async with asyncio.timeout(FOLLOWING_SECONDS):
                while not await arrived():  # noqa: ASYNC110 - another process
                    await asyncio.sleep(FOLLOWING_POLL_SECONDS)
        except TimeoutError as error:
            raise self.failed("does not get what its primary writes") from error

    async def promote(self) -> None:
        """Make it a primary; the former one must have ended."""
        assert await self.execute(f"SELECT pg_promote(true, {PROMOTION_SECONDS})"), "it was promoted in time"

    def _password(self) -> str:
        # Roles and passwords are those of the copied cluster.
        return self._primary.address.password

    async def _initialise(self) -> None:
        target = f"host={LOCALHOST} port={self._primary.port} user={self._primary.address.user} application_name={NAME}"
        with new_cluster(self.data_folder, self._account) as data:
            command = [
                str(self._binaries / "pg_basebackup"),
                *("--pgdata", str(data), "--dbname", target, "--write-recovery-conf"),
                *("--wal-method", "stream", "--checkpoint", "fast", "--no-sync"),
            ]
            code = await run_once(
                command,
                # Not among the arguments, which everybody on the machine can see.
                environment={**clean_environment(), "PGPASSWORD": self._password()},
                account=self._account,
                log=self.log,
                within=COPY_SECONDS,
            )
        if code != 0:
            raise self.failed(f"could not copy its primary ({describe_exit(code)})")


def remove_copy(folder: Path) -> None:
    """Remove the copy in a standby's folder; harmless where there is none.

    Raises:
        LocalStackError: it was promoted, or something else is in its place.
    """
    data = folder / "data"
    if has_cluster(data):
        _require_copy(folder)
        end_orphan(data.resolve())
    remove_cluster(data)


def _require_copy(folder: Path) -> None:
    if not (folder / "data" / "standby.signal").exists():
        raise LocalStackError(
            f"The server in {folder} was promoted and may have what its primary has not, so it was left alone: move "
            "that folder away, and the next start makes another copy; or delete everything with `muster reset`."
        )
