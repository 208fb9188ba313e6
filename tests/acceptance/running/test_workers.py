"""Several workers of one API: they share the port, one inner port tells of all, and all end with the service."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest

from local_stack.ports import free_ports
from tests.acceptance.stack import MUSTER, READY_SECONDS, STOP_SECONDS, clean_environment
from tests.waiting import until

#: No server is there: the API starts all the same and says that it is not ready.
SETTINGS = {
    "AUTH_DISABLED": "true",
    "POSTGRES_USER": "u",
    "POSTGRES_PASSWORD": "p",
    "POSTGRES_SERVER": "127.0.0.1",
    "POSTGRES_PORT": "1",
    "COMMAND_POSTGRES_DB": "c",
    "IDEMPOTENCY_SECRET": "x" * 32,
    "CREDENTIALS_SECRETS": "x" * 32,
    "WORKERS": "2",
}


class Service(NamedTuple):
    """A service that answers."""

    process: asyncio.subprocess.Process
    url: str
    inside: str

    @property
    def workers(self) -> list[psutil.Process]:
        """Its workers; multiprocessing's own tracker is none."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """`muster serve command` with two workers, of which both answer."""
    port, ops_port = free_ports(2)
    process = await asyncio.create_subprocess_exec(
        *(MUSTER, "serve", "command", "--port", str(port)),
        env=clean_environment() | SETTINGS | {"COMMAND_API_OPS_PORT": str(ops_port)},
        cwd=tmp_path,
    )
    found = Service(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ops_port}")
    try:
        await until(lambda: says(found, "/livez", "ok"), within=READY_SECONDS, what="both workers")
        yield found
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), STOP_SECONDS)


async def says(service: Service, path: str, workers: str) -> bool:
    """Whether the inner port says this of the workers."""
    try:
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{service.inside}{path}")
    except httpx.HTTPError:
        return False
    document = answer.json()
    return workers in document["checks"]["workers"] and (answer.status_code == 200) == (document["status"] == "ok")


async def test_metrics_are_those_of_all_workers_and_nothing_is_left_at_the_end(service: Service) -> None:
    workers = psutil.Process(service.process.pid).children(recursive=True)
    counts = []
    for _ in range(20):
        # A connection each, so that any worker may answer.
        async with httpx.AsyncClient() as http:
            public = [await http.get(f"{service.url}{path}") for path in ("/health", "/readyz", "/metrics", "/users")]
            ready, metrics = await http.get(f"{service.inside}/readyz"), await http.get(f"{service.inside}/metrics")
        [count] = re.findall(r'muster_http_requests_total{method="GET",status="200"} (.+)', metrics.text)
        counts.append(float(count))
    service.process.send_signal(signal.SIGTERM)
    code = await asyncio.wait_for(service.process.wait(), STOP_SECONDS)

    assert code == 0
    assert [answer.status_code for answer in public] == [200, 503, 404, 405]
    assert public[1].json() == {"status": "failed"}
    assert ready.status_code == 503
    assert ready.json()["checks"]["database"].count("no connection to u@127.0.0.1:1/c") == 2
    assert ready.json()["checks"]["workers"] == "ok"
    for answer in (*public, ready, metrics):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
    assert counts == sorted(counts), "a worker showed its own figures only"
    assert counts[-1] >= 20
    assert len(workers) >= 2

    async def all_gone() -> bool:
        _, alive = psutil.wait_procs(workers, timeout=0)
        return not alive

    # multiprocessing's own tracker ends a moment after the process it tracked for.
    await until(all_gone, within=10, what="every process of the service to end")


async def test_a_worker_that_hangs_or_has_died_shows(service: Service) -> None:
    frozen, killed = service.workers
    os.kill(frozen.pid, signal.SIGSTOP)
    await until(
        lambda: says(service, "/livez", f"1 of 2 do not answer: process {frozen.pid}"), within=10, what="the frozen one"
    )
    os.kill(killed.pid, signal.SIGKILL)
    await until(
        lambda: says(service, "/readyz", f"2 of 2 do not answer: process {frozen.pid}, {killed.pid}"),
        within=10,
        what="the killed one",
    )
    os.kill(frozen.pid, signal.SIGCONT)

    await until(lambda: says(service, "/livez", "ok"), within=READY_SECONDS, what="the killed one to be replaced")


@pytest.mark.parametrize("whole_group", [False, True])
async def test_several_workers_end_with_exit_code_0_when_interrupted(service: Service, whole_group: bool) -> None:
    workers = service.workers
    # A terminal's Ctrl-C reaches the workers as well.
    for process in (psutil.Process(service.process.pid), *(workers if whole_group else [])):
        process.send_signal(signal.SIGINT)

    assert await asyncio.wait_for(service.process.wait(), STOP_SECONDS) == 0
    assert not psutil.wait_procs(workers, timeout=STOP_SECONDS)[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_api_in_one_process_ends_with_exit_code_0_whichever_signal_it_is_sent(
    tmp_path: Path, number: signal.Signals
) -> None:
    port, ops_port = free_ports(2)
    process = await asyncio.create_subprocess_exec(
        *(MUSTER, "serve", "command", "--port", str(port)),
        env=clean_environment() | SETTINGS | {"COMMAND_API_OPS_PORT": str(ops_port), "WORKERS": "1"},
        cwd=tmp_path,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        await until(lambda: _lives(url), within=READY_SECONDS, what="the API")
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), STOP_SECONDS) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _lives(url: str) -> bool:
    async with httpx.AsyncClient() as http:
        try:
            return (await http.get(f"{url}/livez")).status_code == 200
        except httpx.TransportError:
            return False
