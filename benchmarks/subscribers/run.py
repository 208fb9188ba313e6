"""What subscribers get: from the kit, by itself and from nothing to a whole copy, and from the event API.

The reference of each is what a subscriber would do without: read JSON, or the topic, with nothing around it.
"""

from benchmarks.reporting.result import Result
from benchmarks.running.plan import Plan
from benchmarks.running.servers import open_servers, pin_servers
from benchmarks.subscribers.backlog import measure_backlog
from benchmarks.subscribers.copying import measure_bootstrap, measure_bootstrap_under_load
from benchmarks.subscribers.decoding import measure_decoding
from benchmarks.subscribers.streams import measure_memory, measure_streams


async def run(plan: Plan) -> Result:
    """Measure the kit, then the event API."""
    result = Result("Subscribers")
    await measure_decoding(plan, result)
    async with open_servers(plan) as servers:
        await measure_bootstrap(plan, servers, result)
        await measure_bootstrap_under_load(plan, servers, result)
        pin_servers(servers)
        await measure_backlog(plan, servers, result)
        await measure_streams(plan, servers, result)
        await measure_memory(plan, servers, result)
    return result
