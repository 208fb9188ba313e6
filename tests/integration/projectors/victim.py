"""A projectors process of its own, which kills itself (SIGKILL) at a point, the n-th time it gets there.

Usage: victim.py SETTINGS_JSON before_commit|after_commit|never COUNT
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from chassis.lifecycle import run
from chassis.telemetry import configure_logging
from projectors.app import serve
from projectors.consumer import parking
from projectors.consumer.batches import BatchWriter
from projectors.settings import ProjectorSettings


def write_settings(settings: ProjectorSettings, path: Path) -> Path:
    """Write the settings, password included, for a victim."""
    secret = settings.query_postgres_password.get_secret_value()
    path.write_text(json.dumps(settings.model_dump() | {"query_postgres_password": secret}))
    return path


def read_settings(path: Path) -> ProjectorSettings:
    """The settings that `write_settings` wrote."""
    values = json.loads(path.read_text())
    values["query_postgres_password"] = SecretStr(values["query_postgres_password"])
    return ProjectorSettings.model_construct(**values)


def dying_after(count: int, original: Any) -> Any:
    """The function, and death before its n-th call."""
    calls = 0

    async def call(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= count:
            os.kill(os.getpid(), signal.SIGKILL)
        return await original(*arguments, **named)

    return call


def main() -> int:
    """Serve until told to stop, or until the point."""
    settings, point, count = read_settings(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    configure_logging("victim", "WARNING")
    match point:
        case "before_commit":
            # The last thing in a batch's transaction.
            parking.park = dying_after(count, parking.park)
        case "after_commit":
            BatchWriter._notify = dying_after(count, BatchWriter._notify)  # type: ignore[method-assign]
        case _:
            assert point == "never"
    return run(lambda stopping: serve(settings, stopping))


async def start_victim(settings: Path, point: str, count: int) -> asyncio.subprocess.Process:
    """Start one as a child process."""
    module = "tests.integration.projectors.victim"
    return await asyncio.create_subprocess_exec(sys.executable, "-m", module, str(settings), point, str(count))


if __name__ == "__main__":
    sys.exit(main())
