"""A statement by pgbench: what the database itself can do with so many clients."""

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks.running.cores import ALL_CORES, pin
from benchmarks.running.rounds import NoFigureError, Sample
from chassis.settings import PostgresAddress
from local_stack.postgres.server import find_binaries
from local_stack.postgres.unprivileged import unprivileged_account

#: pgbench measures whole seconds.
LEAST_SECONDS: Final = 1
#: Beyond the seconds it was told, for connecting and ending.
GRACE_SECONDS: Final = 30.0


class PgbenchError(Exception):
    """pgbench failed; the message is its own."""


async def pgbench(  # noqa: PLR0913 - a run has these parts
    address: PostgresAddress,
    script: Path,
    *,
    clients: int,
    seconds: float,
    cores: frozenset[int] = ALL_CORES,
    variables: Mapping[str, int] | None = None,
) -> Sample:
    """Transactions a second of a script, with prepared statements; each client begins with these variables.

    Raises:
        PgbenchError: it failed.
        NoFigureError: it ended before it had done a single one.
    """
    whole = max(LEAST_SECONDS, round(seconds))
    process = await asyncio.create_subprocess_exec(
        str(find_binaries(unprivileged_account()) / "pgbench"),
        *("-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-T", str(whole), "-f", str(script)),
        *(f"-D{name}={value}" for name, value in (variables or {}).items()),
        *("-h", address.server, "-p", str(address.port), "-U", address.user, address.database),
        env={**os.environ, "PGPASSWORD": address.password.get_secret_value()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    pin(process.pid, cores)
    try:
        out, err = await asyncio.wait_for(process.communicate(), whole + GRACE_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    found = re.search(r"^tps = ([\d.]+)", out.decode(), flags=re.MULTILINE)
    if found is None and re.search(r"processed: 0$", out.decode(), flags=re.MULTILINE):
        raise NoFigureError(f"pgbench did nothing within {whole} s")
    if process.returncode or found is None:
        raise PgbenchError(err.decode().strip() or out.decode().strip())
    return Sample(float(found[1]))
