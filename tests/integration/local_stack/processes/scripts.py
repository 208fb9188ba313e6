"""Small Python programs as children: what a test needs a process to do, and nothing else."""

import sys
from pathlib import Path

from local_stack.processes.child import Child


class Script(Child):
    """Runs Python source; ready once it has written a line `ready`."""

    ready_within = 10.0

    def __init__(self, name: str, folder: Path, source: str) -> None:
        super().__init__(name, folder / f"{name}.log")
        self.source = source

    def command(self) -> list[str]:
        return [sys.executable, "-c", self.source]

    async def is_ready(self) -> bool:
        return "ready" in self.last_lines()


#: Serves until it is told to end.
STEADY = "import signal; print('ready', flush=True); signal.pause()"

#: Refuses to end when asked to.
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); print('ready', flush=True)\nwhile True: signal.pause()"

#: Cannot start.
BROKEN = "import sys; sys.exit('the reason')"

#: Has a child of its own that would outlive it.
PARENT = (
    "import signal, subprocess, sys\n"
    "worker = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
    "print(worker.pid, flush=True); print('ready', flush=True); signal.pause()"
)
