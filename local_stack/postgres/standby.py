"""A hot standby of a local server: a copy that follows its log, answers reads, and can be promoted.

Asked for by `follow`, a primary waits with each commit until its standby has it on disk, so that a failover loses
nothing that was acknowledged. Where the standby is away, commits then wait, as in production.
"""

from pathlib import Path

from local_stack.ports import LOCALHOST
from local_stack.postgres.data import new_cluster
from local_stack.postgres.server import PostgresServer, clean_environment
from local_stack.processes.child import describe_exit, run_once

#: As whom a primary knows it (`application_name`).
NAME = "standby"
#: The copy of a small cluster takes a second, after a checkpoint that is asked for.
COPY_SECONDS = 120.0
PROMOTION_SECONDS = 30


class PostgresStandby(PostgresServer):
    """The standby of one primary, which must run when it is started for the first time."""

    def __init__(
        self,
        folder: Path,
        primary: PostgresServer,
        *,
        durable: bool = True,
        log: Path | None = None,
    ) -> None:
        super().__init__(folder, durable=durable, log=log)
        self._primary = primary

    async def follow(self) -> None:
        """Have each commit of the primary wait for this standby, from now on; it must run."""
        await self._primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
        await self._primary.execute("SELECT pg_reload_conf()")

    async def is_followed(self) -> bool:
        """Tell whether the primary's commits wait for it, and it is there for them."""
        # It has one standby.
        return await self._primary.execute("SELECT sync_state FROM pg_stat_replication") == "sync"

    async def promote(self) -> None:
        """Make it a primary; whoever was one must have ended."""
        assert await self.execute(f"SELECT pg_promote(true, {PROMOTION_SECONDS})"), "it was promoted in time"

    def _password(self) -> str:
        # Roles and their passwords are the cluster's.
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
                folder=Path("/"),
                account=self._account,
                log=self.log,
                within=COPY_SECONDS,
            )
        if code != 0:
            raise self.failed(f"could not copy its primary ({describe_exit(code)})")
