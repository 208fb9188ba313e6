"""What is done to an installation: each process, broker and server is killed; and what else befalls servers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from chassis.kafka.client import admin
from chassis.settings import Kafka
from local_stack.processes.child import Child
from local_stack.processes.http_process import HttpProcess
from local_stack.servers import Servers
from tests.waiting import until

#: A server that comes back starts, and fetches what it missed.
WHOLE_SECONDS: Final = 120.0

Act = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Fault:
    """How something is taken away, and how it comes back; `name` says it as the page does."""

    name: str
    strike: Act
    mend: Act


def faults(servers: Servers, processes: Mapping[str, Sequence[HttpProcess]]) -> Iterator[Fault]:
    """All of them; a server that ended is started again by the stack. After the last there is one PostgreSQL left."""
    for name, some in processes.items():
        for number, process in enumerate(some, start=1):
            yield Fault(f"{name} {number} of {len(some)} killed", process.kill, process.start)
    for broker in servers.brokers:
        yield Fault(f"{broker.name} killed", broker.kill, partial(_back, broker))
        yield Fault(f"{broker.name} frozen", partial(_frozen, broker), partial(_resumed, broker))
        yield Fault(f"{broker.name} restarted", partial(_ended, broker), partial(_back, broker))
    primary, standby = servers.postgres, servers.standby
    assert standby is not None

    async def follows() -> None:
        await asyncio.gather(_back(primary), _back(standby))
        await standby.until_it_follows(synchronous=True)

    async def fail_over() -> None:
        primary.pause()  # it is never woken again: that is its fence
        await standby.promote()

    yield Fault("PostgreSQL's standby killed", standby.kill, follows)
    yield Fault("PostgreSQL's primary killed, and started again", primary.kill, follows)
    yield Fault("PostgreSQL's primary frozen, its standby promoted", fail_over, partial(_back, standby))


async def until_whole(servers: Servers) -> None:
    """Wait until each of the brokers has all of every topic, so that any of them may go."""
    kafka = Kafka.model_validate(servers.kafka.client_settings())

    async def is_whole() -> bool:
        try:
            async with admin(kafka) as client:
                topics = await client.describe_topics()
        except (OSError, RuntimeError):  # one of them is only coming back
            return False
        partitions = [each for topic in topics for each in topic["partitions"]]
        return all(len(each["isr"]) == len(servers.brokers) for each in partitions)

    await until(is_whole, within=WHOLE_SECONDS, what="every copy to be there")


async def _ended(child: Child) -> None:
    """Have it end in order."""
    former = child.pid
    child.signal(child.stop_signal)

    async def is_gone() -> bool:
        return child.pid != former

    await until(is_gone, within=WHOLE_SECONDS, what=f"{child.name} to end")


async def _frozen(child: Child) -> None:
    child.pause()


async def _resumed(child: Child) -> None:
    child.resume()
    await _back(child)


async def _back(child: Child) -> None:
    async def is_back() -> bool:
        return child.running and await child.is_ready()

    await until(is_back, within=WHOLE_SECONDS, what=f"{child.name} to be back")
