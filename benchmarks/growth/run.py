"""From a thousand users to ten million on one running system, then a backlog of ten million events.

Users are added while the processes run, as SQL would have left them; then as many events wait in the outbox. Ten
million take 35 GB of disk.
"""

from typing import Final

from benchmarks.end_to_end.run import BAR_RATE, QUICK_WARM_UP_SECONDS, grow, system
from benchmarks.growth.curves import MOST_REBUILT, Growth
from benchmarks.relay.backlog import fill_many
from benchmarks.relay.depth import drain_in_its_process
from benchmarks.relay.run import MEGABYTE
from benchmarks.reporting.figures import Figure
from benchmarks.reporting.result import Result
from benchmarks.running.plan import Plan
from benchmarks.running.servers import Servers, open_servers

#: The smallest size is measured first, and the others beside it: until then the broker has compiled its code.
WARM_UP_SECONDS: Final = 30.0
#: Where curves have their points, up to the plan's number of users.
SIZES: Final = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)


async def run(plan: Plan) -> Result:
    """Measure each request alone at every size, an audit, a rebuild up to where it takes seconds, and the drain."""
    result, growth = Result("Growth"), Growth()
    result.note(
        "All processes share the machine with the one client, as under `make up`. An audit compares every user of both "
        "sides, once; the rounds of its bar are parts of that walk. The backlog is as many events as there are users, "
        "drained by `muster relay`."
    )
    sizes = [size for size in SIZES if size <= plan.users] or [plan.users]
    async with open_servers(plan) as servers:
        await grow(servers, 1, sizes[0])
        async with system(servers) as running:
            plan.say("warming up")
            running.travellers.users = sizes[0]
            await running.travellers.at_rate(BAR_RATE, QUICK_WARM_UP_SECONDS if plan.quick else WARM_UP_SECONDS)
            for previous, size in zip([0, *sizes], sizes, strict=False):
                if previous:
                    plan.say(f"adding users up to {size:,}")
                    await grow(servers, previous + 1, size)
                await growth.measure(plan, size, running.command_port, running.query_port, servers)
        for size in sizes:
            if size <= MOST_REBUILT:
                await growth.measure_rebuild(plan, size, servers)
        await _drain(plan, servers, result)
    growth.tell(result)
    return result


async def _drain(plan: Plan, servers: Servers, result: Result) -> None:
    plan.say(f"filling the outbox with {plan.users:,} events")
    async with servers.session("command") as connection:
        await fill_many(connection, plan.users)
    usage = await drain_in_its_process(servers)
    plan.say(f"drained {plan.users:,} in {usage.seconds:.1f} s")
    result.fact("Backlog", f"{plan.users:,} events, drained in {usage.seconds:.0f} s")
    memory = Figure.once(usage.peak_bytes / MEGABYTE)
    result.claim(f"memory while draining {plan.users:,}", memory, at_most=100, unit="MB")
