"""The command API as a process of its own, as it is served."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from chassis.settings import PostgresAddress
from local_stack.ports import free_port
from tests.integration.command_api.conftest import SECRET
from tests.waiting import until

ROOT = Path(__file__).parents[3]
#: Importing the web framework on a loaded machine.
READY_SECONDS = 30
STOP_SECONDS = 10


@dataclass(frozen=True)
class ApiProcess:
    """A running command API."""

    process: asyncio.subprocess.Process
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def api_process(address: PostgresAddress, port: int = 0, **variables: str) -> AsyncIterator[ApiProcess]:
    """Serve until the block ends; ready when it begins."""
    port = port or free_port()
    command = (sys.executable, "-m", "uvicorn", "--factory", "command_api.app:create_app", "--port", str(port))
    environment = {
        **{name: value for name, value in os.environ.items() if "POSTGRES" not in name},
        "COMMAND_POSTGRES_SERVER": address.server,
        "COMMAND_POSTGRES_PORT": str(address.port),
        "COMMAND_POSTGRES_USER": address.user,
        "COMMAND_POSTGRES_PASSWORD": address.password.get_secret_value(),
        "COMMAND_POSTGRES_DB": address.database,
        "IDEMPOTENCY_SECRET": SECRET,
        "ARGON2_MEMORY_KIB": "8",
        "ARGON2_TIME_COST": "1",
        **variables,
    }
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet)
    served = ApiProcess(process, port)
    try:
        await until(lambda: _ready(served), within=READY_SECONDS, what="the command API is ready")
        yield served
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), STOP_SECONDS)


async def _ready(served: ApiProcess) -> bool:
    assert served.process.returncode is None, "the command API ended"
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return (await client.get(f"{served.url}/readyz")).status_code == 200
        except httpx.TransportError:
            return False
