"""One `muster up` in a process of its own, on a folder and ports of the benchmark's."""

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cli.stack.local_stack import muster
from local_stack.ports import free_port
from local_stack.processes.child import Child

#: The options of `muster up` that choose ports.
PORTS: Final = ("postgres", "kafka", "command", "query", "relay", "projectors")
READY: Final = "Muster is ready after"
#: A step in the last line of the report, such as `Kafka 1.2 s`, between dots.
_STEP: Final = re.compile(r"(?:^|· )([A-Z][^·\n]*?) (\d+\.\d) s(?= ·|\s*$)", re.MULTILINE)


class Up(Child):
    """`muster up` as a child; it is ready when it prints so, and ends everything in order when it is stopped."""

    stop_within = 120.0  # the first end on a machine also keeps Kafka's start-up cache

    def __init__(self, folder: Path, cache: Path | None = None) -> None:
        """Use a folder that need not exist, and a cache of its own or else this machine's."""
        super().__init__("muster-up", folder.with_suffix(".log"))
        self.folder = folder
        self._cache = cache
        self._ports = {name: free_port() for name in PORTS}

    def command(self) -> list[str]:
        """Return `muster up` with every port given."""
        ports = [word for name, port in self._ports.items() for word in (f"--{name}-port", str(port))]
        return [*muster().command, "up", "--folder", str(self.folder), *ports]

    def environment(self) -> Mapping[str, str]:
        """Return our environment, with a width that fits the report."""
        cache = {"MUSTER_CACHE": str(self._cache)} if self._cache else {}
        return {**os.environ, "COLUMNS": "1000", **cache}

    def working_folder(self) -> Path:
        """Return a folder without `.env`."""
        return self.folder.parent

    async def is_ready(self) -> bool:
        """Tell whether it has printed that it is ready."""
        return READY in self.told()

    def told(self) -> str:
        """Return its output since it was last started."""
        return "\n".join(self.last_lines(100))

    def steps(self) -> dict[str, float]:
        """Return the seconds of each step, from its report; steps overlap."""
        report = self.told().partition(READY)[2]
        return {name.strip(): float(seconds) for name, seconds in _STEP.findall(report)}

    async def timed_start(self) -> float:
        """Start it; return the seconds from the command until it is ready."""
        began = time.perf_counter()
        await self.start()
        return time.perf_counter() - began
