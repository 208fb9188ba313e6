"""Processes of a test's own, forked from a server that has imported what they need.

Importing takes a process of ours a second of processor time, and tests start some hundred of them. A fork is what a
start is otherwise: it has an environment, output, signals and an exit code of its own, and nothing that an import could
have read or opened, since ours read and open nothing (`muster up` relies on that too:
local_stack/processes/preloaded.py). What a process is that was started the ordinary way is for tests/acceptance.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import cli.main
from cli.stack.local_stack import PRELOADED
from local_stack.processes.preloaded import ForkedProcess

#: Tests call most of them, some by the dozen.
COMMANDS = {lazy.target.partition(":")[0] for lazy in cli.main.COMMANDS.values()}
NOWHERE = Path(os.devnull)

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([*PRELOADED, "cli.main", *sorted(COMMANDS)])


class Fork(ForkedProcess):
    """A forked process of a test's."""

    @classmethod
    async def start(
        cls,
        target: Callable[..., object],
        *arguments: Any,
        environment: Mapping[str, str] | None = None,
        given: Path = NOWHERE,
        out: Path | None = None,
        err: Path | None = None,
    ) -> Self:
        """Run `target(*arguments)` in a process with these variables (ours, if None).

        What it is given it reads from a file, and what it writes goes to files, or (None) where our own words go.
        """
        told = dict(os.environ if environment is None else environment)
        process = _CONTEXT.Process(
            target=_become, args=(target, arguments, told), kwargs={"given": given, "out": out, "err": err}
        )
        # The first one waits for the imports.
        starting = asyncio.create_task(asyncio.to_thread(process.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # What has begun starts all the same, and whoever ends waits for all that have started.
            await starting
            left = cls(process)
            left.kill()
            await left.wait()
            raise
        return cls(process)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


def _become(
    target: Callable[..., object],
    arguments: tuple[Any, ...],
    environment: Mapping[str, str],
    *,
    given: Path,
    out: Path | None,
    err: Path | None,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = given.open(encoding="utf-8")
    for path, descriptor in ((out, 1), (err, 2)):
        if path is not None:
            with path.open("wb") as file:
                os.dup2(file.fileno(), descriptor)
    target(*arguments)
