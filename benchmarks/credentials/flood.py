"""A flood of guesses at one account, while others log in, and the owner from a known device.

The app is served as it is for users, transport and all, by one process on one core. Each guess comes on a connection of
its own, as many as the file limits of this machine leave; the result says how many.
"""

import asyncio
import itertools
import re
import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import httpx

from benchmarks.credentials.guesses import guesses
from benchmarks.credentials.requests import PASSWORD, PATH, USERS, logins, register
from benchmarks.reporting.figures import percentile
from benchmarks.reporting.samples import cpu_seconds
from benchmarks.running.cores import SERVER_CORES
from benchmarks.running.load import open_loop
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Probe, Sample
from benchmarks.running.servers import Servers
from local_stack.ports import LOCALHOST, free_port

#: Guesses at one account.
GUESSES, GUESSES_QUICK = 10_000, 500
#: Within how many seconds they come: more in one than a core can answer, and as many in ten as it can.
AT_ONCE_SECONDS, STEADY_SECONDS = 1.0, 10.0
#: Files that a process has open beside its connections.
OTHER_FILES: Final = 500
#: Logins of others a second: a tenth of what the core can hash.
OTHERS_RATE: Final = 5
#: The owner comes again and again, each time with the token of the last.
OWNER_SECONDS: Final = 0.25
LOST_SECONDS: Final = 120.0
_CHECKED: Final = re.compile(r"^muster_password_checks_total\{.*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Target:
    """A command API with its users."""

    port: int
    pid: int
    client: httpx.AsyncClient
    ops: httpx.AsyncClient
    connections: int
    #: The numbers of those who are guessed at.
    victims: Iterator[int]

    async def hashed(self) -> float:
        """Passwords that it has hashed to check them, as it counts them itself."""
        text = (await self.ops.get("/metrics")).raise_for_status().text
        return sum(float(value) for value in _CHECKED.findall(text))


@asynccontextmanager
async def open_target(plan: Plan, servers: Servers) -> AsyncIterator[Target]:
    """Serve the app on a database of its own."""
    connections = min(
        GUESSES_QUICK if plan.quick else GUESSES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES
    )
    ops = free_port()
    variables = {
        "HASHING_THREADS": str(len(SERVER_CORES)),
        "HTTP_CONNECTIONS": str(connections + OTHER_FILES // 2),
        # All connections are opened before the first guess is sent, which takes a busy machine longer than 10 s.
        "HTTP_HEAD_SECONDS": "60",
        "COMMAND_API_OPS_PORT": str(ops),
    }
    async with (
        (await servers.new_database("command")).api("command", cores=SERVER_CORES, variables=variables) as api,
        httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=LOST_SECONDS) as client,
        httpx.AsyncClient(base_url=f"http://{LOCALHOST}:{ops}", trust_env=False, timeout=LOST_SECONDS) as inner,
    ):
        await register(client, "known", USERS)
        assert api.pid is not None
        yield Target(api.port, api.pid, client, inner, connections, itertools.count(1))


def calm(target: Target, seconds: float) -> Probe:
    """Logins of others at a rate that leaves the core time, and an owner's; the figure is the others' p99."""

    async def run() -> Sample:
        name = "known0"
        return await _beside_an_owner(target, name, await _owner_logs_in(target, name, None), seconds)

    return run


async def _beside_an_owner(target: Target, name: str, token: str | None, seconds: float) -> Sample:
    before = cpu_seconds(target.pid)
    sample, owner = await asyncio.gather(_others(target, seconds), _owner(target, name, token, seconds))
    used = {"process's CPU": cpu_seconds(target.pid) - before}
    return replace(sample, parts={**sample.parts, **owner, **used})


async def _others(target: Target, seconds: float) -> Sample:
    measured = await open_loop(
        target.port, logins(USERS // 2), rate=OTHERS_RATE, connections=OTHERS_RATE, seconds=seconds
    )
    each = [seconds * 1000 for seconds in measured.latencies]
    return Sample(percentile(each, 0.99), {"p50": percentile(each, 0.5), "logged in": len(each)}, each)


def flooded(plan: Plan, target: Target, seconds: float, within: float) -> Probe:
    """The same while one account is guessed at, another one each time."""
    total = GUESSES_QUICK if plan.quick else GUESSES

    async def run() -> Sample:
        name = f"known{next(target.victims)}"
        token = await _owner_logs_in(target, name, None)
        before = await target.hashed()
        async with guesses(
            target.port, name, connections=target.connections, total=total, seconds=within
        ) as send_guesses:
            answered, sample = await asyncio.gather(send_guesses(), _beside_an_owner(target, name, token, seconds))
        hashed = await target.hashed() - before - sample.parts["logged in"] - sample.parts["owner's logins"]
        return replace(sample, parts={**sample.parts, "hashed": hashed, "answered": answered})

    return run


async def _owner(target: Target, name: str, token: str | None, seconds: float) -> dict[str, float]:
    """The owner's logins: how many, the slowest in milliseconds, and how many were refused."""
    took: list[float] = []
    refused = 0
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        new = await _owner_logs_in(target, name, token)
        took.append(time.perf_counter() - start)
        refused += new is None
        token = new or token
        await asyncio.sleep(max(0.0, OWNER_SECONDS - took[-1]))
    return {"owner": max(took) * 1000, "owner's logins": len(took) - refused, "owner refused": refused}


async def _owner_logs_in(target: Target, name: str, token: str | None) -> str | None:
    """The new device token, None where the answer is a refusal."""
    body = {"identifier": name, "password": PASSWORD, "device_token": token}
    answer = await target.client.post(PATH, json=body)
    return str(answer.json()["device_token"]) if answer.status_code == 200 else None
