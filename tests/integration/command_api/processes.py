"""The command API as a process of its own, as it is served."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn

from chassis.http.listening import server_config
from chassis.postgres.roles import COMMAND
from chassis.settings import PostgresAddress, load
from command_api.app import create_app
from command_api.settings import CommandApiSettings
from local_stack.ports import free_port
from tests.databases import as_role
from tests.forks import NOWHERE, Fork
from tests.integration.command_api.conftest import SECRET
from tests.integration.muster_processes import answers_ready
from tests.waiting import until

#: On a loaded machine.
READY_SECONDS = 30
STOP_SECONDS = 10


@dataclass(frozen=True)
class ApiProcess:
    """A running command API."""

    process: Fork
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
    address = as_role(address, COMMAND)
    environment = {
        **{name: value for name, value in os.environ.items() if "POSTGRES" not in name},
        "COMMAND_POSTGRES_SERVER": address.server,
        "COMMAND_POSTGRES_PORT": str(address.port),
        "COMMAND_POSTGRES_USER": address.user,
        "COMMAND_POSTGRES_PASSWORD": address.password.get_secret_value(),
        "COMMAND_POSTGRES_DB": address.database,
        "IDEMPOTENCY_SECRET": SECRET,
        "CREDENTIALS_SECRETS": SECRET,
        "AUTH_DISABLED": "true",
        "ARGON2_MEMORY_KIB": "8",
        "ARGON2_TIME_COST": "1",
        **variables,
    }
    process = await Fork.start(serve, port, environment=environment, out=NOWHERE, err=NOWHERE)
    served = ApiProcess(process, port)
    try:
        await until(lambda: _ready(served), within=READY_SECONDS, what="the command API is ready")
        yield served
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), STOP_SECONDS)


async def _ready(served: ApiProcess) -> bool:
    assert served.process.returncode is None, "the command API ended"
    return await answers_ready(served.port)


def serve(port: int) -> None:
    """Be the command API on a port."""
    uvicorn.Server(server_config(create_app, load(CommandApiSettings), factory=True, port=port)).run()
