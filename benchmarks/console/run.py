"""The console beside a whole stack: its memory and its share of a core, idle and with fifty open overviews; a search.

The APIs stand beside it, and what the open overviews cost the query API is measured, too: one poll serves all.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import httpx
import psutil

from benchmarks.population import fill_query
from benchmarks.reporting.figures import Figure, number, percentile
from benchmarks.reporting.result import Result
from benchmarks.running.plan import Plan
from benchmarks.running.servers import OPS_PORTS, Servers, open_servers
from local_stack.processes.http_process import HttpProcess

VIEWERS: Final = 50
#: Of one measurement of a share of a core: the console looks every 30 s while nobody watches.
TIMES: Final = 15
#: Beginnings of usernames, which are hexadecimal, and what each is searched by: some find nobody.
BEGINNINGS: Final = [f"{number:02x}{rest}" for number in range(0, 256, 16) for rest in ("", "a", "0f3", "zz")]
ANSWER_SECONDS: Final = 30.0
MEBIBYTE: Final = 1024 * 1024


async def run(plan: Plan) -> Result:
    """Measure it idle, then with viewers, then searching."""
    result = Result("Console")
    result.note(
        "A whole stack without traffic on one machine; access is off. A share of a core is that of the process's CPU "
        f"time in {plan.seconds * TIMES:.0f} s; memory is what is resident: idle after the first page, watched after "
        "all of it. The search is a page with all that it finds, by the beginning of a username or an address."
    )
    result.fact("users", f"{plan.users:,}")
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(open_servers(plan))
        async with servers.session("query") as connection:
            plan.say(f"filling {plan.users:,} users")
            await fill_query(connection, plan.users)
        query, console = await _processes(servers, stack)
        http = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=console.url, trust_env=False, timeout=ANSWER_SECONDS, limits=httpx.Limits(max_connections=None)
            )
        )
        (await http.get("/")).raise_for_status()
        resident, own = _memory(console), psutil.Process(console.pid).memory_full_info().uss / MEBIBYTE
        plan.say("nobody looks")
        idle = [await _shares(plan, console, query) for _ in range(plan.rounds)]
        plan.say(f"{VIEWERS} look")
        async with _viewers(http):
            watched = [await _shares(plan, console, query) for _ in range(plan.rounds)]
        plan.say("searching")
        seconds = [await _search(http) for _ in range(plan.rounds)]
        worked = _memory(console)
    result.measured("core, idle", _figure([own for own, _ in idle]), "%")
    result.measured(f"core, {VIEWERS} open overviews", _figure([own for own, _ in watched]), "%")
    result.measured("core of the query API, idle", _figure([its for _, its in idle]), "%")
    result.measured(f"core of the query API, {VIEWERS} open overviews", _figure([its for _, its in watched]), "%")
    result.measured("memory, after all of it", Figure.once(worked), "MiB")
    result.measured("memory, idle, but for files that processes share", Figure.once(own), "MiB")
    result.claim(
        "memory, idle",
        Figure.once(resident),
        at_most=80,
        unit="MiB",
        reason=f"{number(resident - own)} MiB of it are files that processes share",
    )
    result.claim("core, idle", _figure([own for own, _ in idle]), at_most=1, unit="%")
    result.claim("p99 of a search by a beginning", _figure(seconds), at_most=1, unit="s")
    return result


async def _processes(servers: Servers, stack: AsyncExitStack) -> tuple[HttpProcess, HttpProcess]:
    command = await stack.enter_async_context(servers.api("command"))
    query = await stack.enter_async_context(servers.api("query"))
    events = await stack.enter_async_context(servers.api("events"))
    relay = await stack.enter_async_context(servers.muster("relay"))
    projectors = await stack.enter_async_context(servers.muster("project"))
    addresses = {
        "CONSOLE_COMMAND_URL": command.url,
        "CONSOLE_QUERY_URL": query.url,
        "CONSOLE_EVENTS_URL": events.url,
        "CONSOLE_COMMAND_OPS_URL": f"http://127.0.0.1:{command.environment()[OPS_PORTS['command']]}",
        "CONSOLE_QUERY_OPS_URL": f"http://127.0.0.1:{query.environment()[OPS_PORTS['query']]}",
        "CONSOLE_EVENTS_OPS_URL": f"http://127.0.0.1:{events.environment()[OPS_PORTS['events']]}",
        "RELAY_HTTP_PORT": str(relay.port),
        "PROJECTORS_HTTP_PORT": str(projectors.port),
    }
    return query, await stack.enter_async_context(servers.console(addresses))


async def _shares(plan: Plan, *processes: HttpProcess) -> tuple[float, ...]:
    """The share of a core of each process, in per cent, over some seconds."""
    before, start = [_cpu(each) for each in processes], time.perf_counter()
    await asyncio.sleep(plan.seconds * TIMES)
    passed = time.perf_counter() - start
    return tuple(100 * (_cpu(each) - then) / passed for each, then in zip(processes, before, strict=True))


def _cpu(process: HttpProcess) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def _memory(process: HttpProcess) -> float:
    return psutil.Process(process.pid).memory_info().rss / MEBIBYTE


@asynccontextmanager
async def _viewers(http: httpx.AsyncClient) -> AsyncIterator[None]:
    """Open overviews, each of which has been shown something before the block begins."""
    shown = [asyncio.Event() for _ in range(VIEWERS)]
    viewing = [asyncio.create_task(_view(http, each)) for each in shown]
    try:
        await asyncio.wait_for(asyncio.gather(*(each.wait() for each in shown)), ANSWER_SECONDS)
        yield
    finally:
        for task in viewing:
            task.cancel()
        await asyncio.gather(*viewing, return_exceptions=True)


async def _view(http: httpx.AsyncClient, shown: asyncio.Event) -> None:
    while True:  # a stream ends after two minutes, and a browser comes back
        async with http.stream("GET", "/live/overview") as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    shown.set()


async def _search(http: httpx.AsyncClient) -> float:
    """The 99th percentile of the seconds from the form to the page of what was found."""
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', (await http.get("/users")).text)
    assert token is not None
    times = []
    for text in BEGINNINGS:
        start = time.perf_counter()
        answer = await http.post("/users", data={"csrf": token[1], "text": text, "status": ""}, follow_redirects=True)
        answer.raise_for_status()
        times.append(time.perf_counter() - start)
    return percentile(times, 0.99)


def _figure(values: list[float]) -> Figure:
    """Shares of next to nothing vary by a multiple, and bars are far above them: they are no reference's."""
    return Figure(tuple(values))
