"""Guesses at one account, from a process of their own.

`python -m benchmarks.credentials.guesses PORT CONNECTIONS TOTAL SECONDS NAME` opens the connections, sends the guesses
within the seconds once it is told to, and prints how many were answered. In the loop that takes the times of others it
would keep them waiting itself.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, NoReturn

from benchmarks.credentials.requests import login
from benchmarks.running.load import open_loop
from chassis.lifecycle import new_event_loop

_READY: Final = "ready\n"


@asynccontextmanager
async def guesses(
    port: int, name: str, *, connections: int, total: int, seconds: float
) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Have guesses at an account ready; what is given sends them, and tells how many were answered."""
    pipe = asyncio.subprocess.PIPE
    arguments = [str(each) for each in (port, connections, total, seconds, name)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.credentials.guesses", *arguments, stdin=pipe, stdout=pipe
    )
    assert process.stdin
    assert process.stdout
    stdin, stdout = process.stdin, process.stdout

    async def send() -> int:
        stdin.write(b"\n")
        return int(await stdout.readline() or _fail())

    try:
        if await stdout.readline() != _READY.encode():
            _fail()
        yield send
    finally:
        if process.returncode is None:
            # Its input, once closed, would tell it to begin.
            process.terminate()
            await process.wait()


def _fail() -> NoReturn:
    raise RuntimeError("the process that guesses has ended")


async def main(port: int, connections: int, total: int, seconds: float, name: str) -> None:
    """Guess once the input says so."""

    async def told() -> None:
        sys.stdout.write(_READY)
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)

    guess = login(name, "a guess")
    measured = await open_loop(
        port,
        lambda: guess,
        rate=total / seconds,
        connections=connections,
        seconds=seconds,
        good={403, 429, 503},
        when_connected=told,
    )
    sys.stdout.write(f"{len(measured.latencies)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, *numbers, seconds, name = sys.argv
    port, connections, total = map(int, numbers)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(port, connections, total, float(seconds), name))
