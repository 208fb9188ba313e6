"""The faults: each strikes when its block begins and is over when it ends.

A fault is a line in `catalogue`; one more needs nothing else. What is killed is started again by the supervisor, as
`muster up` would.
"""

import asyncio
import random
import shlex
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import psutil

from chassis.settings import Topics
from cli.stack.settings import QUERY_DATABASE
from local_stack.processes.child import Child
from tests.acceptance.stack import clean_environment, run_muster
from tests.chaos.history import Record
from tests.chaos.observation import connected, read_log
from tests.chaos.proxy import Link
from tests.chaos.stack import LINKS, SERVERS, SERVICES, ChaosStack
from tests.integration.disasters.pages import commands, lose_topic
from tests.waiting import until

#: How much later each piece comes over a slow link: a few dozen answers, and a command takes seconds.
SLOW_SECONDS: Final = 0.15
#: A full disk is full for what is started meanwhile, too; this often it is looked for.
FILL_SECONDS: Final = 0.2
#: How far a clock is put forward and back. A token may be this much too young (AUTH_LEEWAY_SECONDS).
CLOCK_STEPS: Final = (3 * 86_400, 600, -25, -600)

#: In which one command of a person's succeeds, tried again and again, on any machine.
COMMAND_SECONDS: Final = 240.0
_TIMELINE_POSITIONS: Final = """
SELECT c.partition, c.position FROM checkpoints c JOIN generations g USING (projection, generation)
WHERE projection = 'timeline' AND g.status = 'serving'
"""

Struck = AbstractAsyncContextManager[None]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; `lasts` says whether it goes on until it is ended."""

    name: str
    strike: Callable[[ChaosStack, random.Random], Struck]
    lasts: bool = True
    #: Whether PostgreSQL dies of it.
    ends_postgres: bool = False
    #: Whether nothing else may strike meanwhile: a person has to mend it, and one who types cannot do with two.
    alone: bool = False


def catalogue(stack: ChaosStack) -> list[Fault]:
    """Every fault that this machine allows."""
    kills = [Fault(f"kill {name}", partial(_signal, signal.SIGKILL, name), lasts=False) for name in SERVICES]
    kills += [Fault(f"stop {name}", partial(_signal, signal.SIGTERM, name), lasts=False) for name in SERVICES]
    kills += [Fault("kill kafka", partial(_signal, signal.SIGKILL, "kafka"), lasts=False)]
    kills += [Fault("kill postgres", partial(_signal, signal.SIGKILL, "postgres"), lasts=False, ends_postgres=True)]
    kills += [Fault("kill a worker of command-api", _kill_worker, lasts=False)]
    kills += [Fault("kill everything", _kill_everything, lasts=False, ends_postgres=True)]
    frozen = [Fault(f"freeze {name}", partial(_freeze, name)) for name in (*SERVICES, *SERVERS)]
    full = [
        Fault("fill the disk of kafka", partial(_fill, "kafka")),
        Fault("fill the disk of postgres", partial(_fill, "postgres"), ends_postgres=True),
    ]
    if not shutil.which("prlimit"):
        full.clear()
    network = [
        Fault(f"{name} {server}", partial(how, server))
        for server in SERVERS
        for name, how in (
            ("slow links to", _slow),
            ("stalled link to", _stall),
            ("dropped links to", _drop),
            ("cut links to", _cut),
            ("half-closed links to", _half_close),
        )
    ]
    clocks = [Fault(f"step the clock of {name}", partial(_step, name)) for name in SERVICES] if stack.has_clocks else []
    lost = [Fault("lose the events topic", _lose_topic, lasts=False, alone=True)]
    return [*kills, *frozen, *full, *network, *clocks, *lost]


@asynccontextmanager
async def _signal(number: signal.Signals, name: str, stack: ChaosStack, _: random.Random) -> AsyncIterator[None]:
    """The supervisor sees it end, and starts it again."""
    stack.child(name).signal(number)
    yield


@asynccontextmanager
async def _kill_worker(stack: ChaosStack, rng: random.Random) -> AsyncIterator[None]:
    """One of several workers; uvicorn's own supervisor starts another."""
    workers = _family(stack.child("command-api"))[1:]
    with suppress(psutil.NoSuchProcess, IndexError):
        rng.choice(workers).kill()
    yield


@asynccontextmanager
async def _kill_everything(stack: ChaosStack, _: random.Random) -> AsyncIterator[None]:
    for child in stack.children:
        child.signal(signal.SIGKILL)
    yield


@asynccontextmanager
async def _freeze(name: str, stack: ChaosStack, _: random.Random) -> AsyncIterator[None]:
    """SIGSTOP, so that connections stay open and nothing answers."""
    child = stack.child(name)
    pid = child.pid
    child.pause()
    try:
        yield
    finally:
        if child.pid == pid:
            child.resume()


@asynccontextmanager
async def _fill(name: str, stack: ChaosStack, _: random.Random) -> AsyncIterator[None]:
    """No file of the server's may grow: what a full disk does, without being root or filling anybody's."""
    child = stack.child(name)
    filling = asyncio.create_task(_keep_full(child))
    try:
        yield
    finally:
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)
        await limit_files(child, "unlimited")


async def _keep_full(child: Child) -> None:
    while True:
        await limit_files(child, "0")
        await asyncio.sleep(FILL_SECONDS)


async def limit_files(child: Child, size: str) -> None:
    """Set how large the files of a process and its descendants may grow, as their own user, who may do that."""
    account = child.account()
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'for pid; do prlimit --pid "$pid" --fsize="$0:"; done', size),
        *(str(process.pid) for process in _family(child)),
        stderr=asyncio.subprocess.DEVNULL,  # some have ended meanwhile
        user=account.uid if account else None,
        group=account.gid if account else None,
    )
    await process.wait()


def _family(child: Child) -> list[psutil.Process]:
    """The process, then its descendants; nobody while it does not run."""
    if child.pid is None:
        return []
    try:
        process = psutil.Process(child.pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@asynccontextmanager
async def _slow(server: str, stack: ChaosStack, _: random.Random) -> AsyncIterator[None]:
    for link in _links(stack, server):
        link.delay = SLOW_SECONDS
    try:
        yield
    finally:
        for link in _links(stack, server):
            link.delay = 0.0


@asynccontextmanager
async def _stall(server: str, stack: ChaosStack, rng: random.Random) -> AsyncIterator[None]:
    """Nothing comes through for a while, to one process alone; then all of it does, as after lost packets."""
    link = rng.choice(_links(stack, server))
    link.stall()
    try:
        yield
    finally:
        link.flow()


@asynccontextmanager
async def _drop(server: str, stack: ChaosStack, _: random.Random) -> AsyncIterator[None]:
    """Nothing comes through, and what was sent meanwhile never does: connections end with the fault."""
    for link in _links(stack, server):
        link.stall()
    try:
        yield
    finally:
        for link in _links(stack, server):
            link.cut()
            link.flow()


@asynccontextmanager
async def _cut(server: str, stack: ChaosStack, _: random.Random) -> AsyncIterator[None]:
    for link in _links(stack, server):
        link.refusing = True
        link.cut()
    try:
        yield
    finally:
        for link in _links(stack, server):
            link.refusing = False


@asynccontextmanager
async def _half_close(server: str, stack: ChaosStack, _: random.Random) -> AsyncIterator[None]:
    for link in _links(stack, server):
        link.half_close()
    yield


@asynccontextmanager
async def _step(name: str, stack: ChaosStack, rng: random.Random) -> AsyncIterator[None]:
    stack.step_clock(name, rng.choice(CLOCK_STEPS))
    try:
        yield
    finally:
        stack.step_clock(name, 0)


@asynccontextmanager
async def _lose_topic(stack: ChaosStack, _: random.Random) -> AsyncIterator[None]:
    """Delete the topic; then do what the page about that says, each command again until it has done its work."""
    topic = Topics(_env_file=None).events_topic
    relay = stack.child("relay")
    relay.pause()  # what it published between our look and the end of the topic would be lost to us as well
    try:
        records = await read_log(stack)
        await lose_topic(stack.brokers, topic)
    finally:
        relay.resume()
    stack.lost += records
    await _note_unread(stack, records)
    yield
    for command in commands("refill-a-lost-topic.md"):
        await _carry_out(stack, command)


async def _note_unread(stack: ChaosStack, records: list[Record]) -> None:
    async with connected(stack, QUERY_DATABASE) as connection:
        rows = await connection.fetch(_TIMELINE_POSITIONS)
    read = {row["partition"]: row["position"] for row in rows}
    for record in records:
        if record.offset >= read.get(record.partition, 0):
            stack.unread.setdefault(record.user, []).append(record.version)


async def _carry_out(stack: ChaosStack, command: list[str]) -> None:
    async def done() -> bool:
        code, _, _ = await run_muster(*command, environment=clean_environment() | stack.settings, folder=stack.folder)
        return code == 0

    await until(done, within=COMMAND_SECONDS, what=f"muster {shlex.join(command)}")


def _links(stack: ChaosStack, server: str) -> list[Link]:
    return [stack.links[link] for link in LINKS if link[1] == server]
