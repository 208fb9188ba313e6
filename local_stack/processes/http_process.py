"""A child process that tells over HTTP whether it is ready."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from local_stack.ports import LOCALHOST
from local_stack.processes.child import Child, RunningProcess
from local_stack.processes.preloaded import Preloaded


class HttpProcess(Child):
    """A program that answers `GET /readyz` (or another path) with 200 once it is ready."""

    def __init__(  # noqa: PLR0913 - each is a property of the process
        self,
        name: str,
        command: list[str],
        *,
        port: int,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        ready_path: str = "/readyz",
        preloaded: Preloaded | None = None,
    ) -> None:
        super().__init__(name, log)
        self.port = port
        self._ready_path = ready_path
        self._preloaded = preloaded
        self._command = command
        self._environment = environment
        self._folder = folder

    @property
    def url(self) -> str:
        """The URL at which it listens."""
        return f"http://{LOCALHOST}:{self.port}"

    def command(self) -> list[str]:
        """Return the command it was given."""
        return self._command

    def environment(self) -> Mapping[str, str]:
        """Return the environment it was given."""
        return self._environment

    def working_folder(self) -> Path:
        """Return the folder it was given."""
        return self._folder

    async def _spawn(self) -> RunningProcess:
        copy = await self._preloaded.copy(self.command(), self.log, self._environment) if self._preloaded else None
        return copy or await super()._spawn()

    async def is_ready(self) -> bool:
        """Tell whether the path answers 200."""
        return await answers_ready(self.port, self._ready_path)


async def answers_ready(port: int, path: str = "/readyz") -> bool:
    """Tell whether a process on 127.0.0.1 answers 200 for the path."""
    # Without a library: creating its client takes longer than the whole request, and it would honour proxies.
    head = f"Host: {LOCALHOST}:{port}\r\nConnection: close"
    request = f"GET {path} HTTP/1.1\r\n{head}\r\n\r\n"
    try:
        reader, writer = await asyncio.open_connection(LOCALHOST, port)
    except OSError:
        return False
    try:
        writer.write(request.encode("ascii"))
        status_line = await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()
    return status_line.split(b" ")[1:2] == [b"200"]
