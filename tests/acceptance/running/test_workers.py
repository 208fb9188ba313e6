"""Several workers of one API: they share the port, their metrics are one, and all of them end with the service."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest

from local_stack.ports import free_port
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
    "WORKERS": "2",
}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`muster serve command` with two workers, answering; and where it is."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        MUSTER, "serve", "command", "--port", str(port), env=clean_environment() | SETTINGS, cwd=tmp_path
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient() as http:

            async def answers() -> bool:
                try:
                    return (await http.get(f"{url}/health")).status_code == 200
                except httpx.HTTPError:
                    return False

            await until(answers, within=READY_SECONDS, what="the first worker")
        yield process, url
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), STOP_SECONDS)


async def test_metrics_are_those_of_all_workers_and_nothing_is_left_at_the_end(
    service: tuple[asyncio.subprocess.Process, str],
) -> None:
    process, url = service
    workers = psutil.Process(process.pid).children(recursive=True)
    counts = []
    for _ in range(20):
        # A connection each, so that any worker may answer.
        async with httpx.AsyncClient() as http:
            text = (await http.get(f"{url}/metrics")).text
            ready = await http.get(f"{url}/readyz")
        [count] = re.findall(r'muster_http_requests_total{method="GET",status="200"} (.+)', text)
        counts.append(float(count))
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.wait(), STOP_SECONDS)

    assert ready.status_code == 503
    assert counts == sorted(counts), "a worker showed its own figures only"
    assert counts[-1] >= 20
    assert len(workers) >= 2

    async def all_gone() -> bool:
        _, alive = psutil.wait_procs(workers, timeout=0)
        return not alive

    # multiprocessing's own tracker ends a moment after the process it tracked for.
    await until(all_gone, within=10, what="every process of the service to end")
