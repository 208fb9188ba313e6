"""One inner port for all workers of an API: each tells its supervisor how it is, on a socket in the folder they share.

The supervisor asks every worker each time, so that one which has died, hangs or is still starting shows.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

from chassis.http.health import CHECK_SECONDS, OK, Answers, Question, Results

#: A worker's checks may take `CHECK_SECONDS`; one whose loop hangs says nothing.
ANSWER_SECONDS: Final = CHECK_SECONDS + 1


@asynccontextmanager
async def telling_supervisor(asked: Answers, folder: Path) -> AsyncIterator[None]:
    """Tell, in a worker, how it is whenever the supervisor asks, until the block ends."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question: Question = "ready" if await reader.readline() == b"ready\n" else "live"
        writer.write(json.dumps(await asked.look(question)).encode())
        writer.close()

    async with await asyncio.start_unix_server(answer, _socket(folder, os.getpid())):
        yield


class Workers:
    """All workers of one API, asked by their supervisor."""

    def __init__(self, folder: Path, pids: Callable[[], Collection[int | None]]) -> None:
        """`pids` gives the processes that there are now."""
        self._folder = folder
        self._pids = pids

    async def look(self, question: Question) -> Results:
        """Each check is `OK` if it is for every worker; `workers` says which of them do not answer."""
        pids = list(self._pids())
        answers = dict(zip(pids, await asyncio.gather(*(self._ask(pid, question) for pid in pids)), strict=True))
        silent = [str(pid) for pid, results in answers.items() if results is None]
        failures: dict[str, list[str]] = {}
        for pid, results in answers.items():
            for name, result in (results or {}).items():
                failures.setdefault(name, []).extend([] if result == OK else [f"process {pid}: {result}"])
        said = {name: "; ".join(found) or OK for name, found in failures.items()}
        missing = f"{len(silent)} of {len(pids)} do not answer: process {', '.join(silent)}"
        return {**said, "workers": missing if silent else OK if pids else "none has started"}

    async def _ask(self, pid: int | None, question: Question) -> Results | None:
        """The results of one worker, None where it does not answer in time."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(_socket(self._folder, pid))
                with closing(writer):
                    writer.write(f"{question}\n".encode())
                    results: Results = json.loads(await reader.read())
        except (OSError, TimeoutError, ValueError):
            return None  # away, silent, or ended half-way
        return results


def _socket(folder: Path, pid: int | None) -> Path:
    return folder / f"{pid}.sock"
