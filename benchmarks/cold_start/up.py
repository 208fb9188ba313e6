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
#: `Kafka 1.2 s`, as `muster up` ends its report, between dots.
_STEP: Final = re.compile(r"(?:^|· )([A-Z][^·\n]*?) (\d+\.\d) s(?= ·|\s*$)", re.MULTILINE)


class Up(Child):
    """Started, it is ready when it says so; stopped, it ends everything in order."""

    stop_within = 120.0  # the first end on a machine also keeps Kafka's start-up cache

    def __init__(self, folder: Path, cache: Path | None = None) -> None:
        """On a folder that need not exist; with a cache of its own, or that of this machine."""
        super().__init__("muster-up", folder.with_suffix(".log"))
        self.folder = folder
        self._cache = cache
        self._ports = {name: free_port() for name in PORTS}

    def command(self) -> list[str]:
        """`muster up` with every port chosen."""
        ports = [word for name, port in self._ports.items() for word in (f"--{name}-port", str(port))]
        return [*muster().command, "up", "--folder", str(self.folder), *ports]

    def environment(self) -> Mapping[str, str]:
        """Ours, with lines long enough for the whole report."""
        cache = {"MUSTER_CACHE": str(self._cache)} if self._cache else {}
        return {**os.environ, "COLUMNS": "1000", **cache}

    def working_folder(self) -> Path:
        """Where no `.env` is found."""
        return self.folder.parent

    async def is_ready(self) -> bool:
        """Tell whether it has said so."""
        return READY in self.told()

    def told(self) -> str:
        """What it has said since it was last started."""
        return "\n".join(self.last_lines(100))

    def steps(self) -> dict[str, float]:
        """Seconds of each step, as it told them; steps overlap."""
        report = self.told().partition(READY)[2]
        return {name.strip(): float(seconds) for name, seconds in _STEP.findall(report)}

    async def timed_start(self) -> float:
        """Start it and give the seconds from the command to the word."""
        began = time.perf_counter()
        await self.start()
        return time.perf_counter() - began
