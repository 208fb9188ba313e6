"""Clients that get no answer are seen to have none, also where none comes before a fault has ended."""

import asyncio

from tests.failover.probes import Probes
from tests.upgrade.clients import FailedError, Twice
from tests.waiting import until


async def test_a_time_without_an_answer_counts_though_no_answer_ends_it() -> None:
    probes, stopping, asked = Probes(["http://127.0.0.1:1"], {}, changes=False), asyncio.Event(), list[Twice]()

    async def fail(client: Twice) -> None:
        asked.append(client)
        raise FailedError

    async def asked_often() -> bool:
        return len(asked) >= 6

    flowing = asyncio.create_task(probes.flow(stopping, fail))
    probes.stretch("first")
    await until(asked_often, within=60, what="both clients to ask some times")
    probes.stretch("second")
    stopping.set()
    await flowing

    assert 0 < probes.tallies["first"].longest <= probes.tallies["second"].longest
