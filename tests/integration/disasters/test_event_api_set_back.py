"""Brokers that were set back to older disks and then grew past what was read: nobody reads on over it."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from event_api.log.continuity import LogGoneError
from local_stack.ports import free_ports
from tests.event_streams import streamed, up_to
from tests.forks import NOWHERE, Fork
from tests.integration.disasters.disks import KEPT, LOST, NEW, LosingLog
from tests.integration.event_api.conftest import client_of, variables
from tests.integration.event_api.test_log import EVERYTHING, assert_all_once_in_order, opened, take
from tests.integration.muster_processes import answers_ready, main
from tests.waiting import until

JSON = {"Accept": "application/json"}


@pytest.fixture
async def log(server_folder: Path) -> AsyncIterator[LosingLog]:
    async with LosingLog.open(server_folder) as log:
        yield log


async def test_a_position_behind_which_brokers_were_set_back_is_gone_and_an_earlier_one_is_not(log: LosingLog) -> None:
    await log.publish(KEPT)
    async with opened(log.kafka, log.topics) as events:
        reading = await events.begin(EVERYTHING, "beginning")
        await take(reading, len(KEPT))
        kept = reading.position
        reading.close()
    await log.keep()
    await log.publish(LOST)
    async with opened(log.kafka, log.topics) as events:
        reading, now = await events.resume(EVERYTHING, kept), await events.begin(EVERYTHING, "now")
        await take(reading, len(LOST))
        lost = reading.position, now.position
        for each in (reading, now):
            each.close()

    await log.lose_and_grow()

    async with opened(log.kafka, log.topics) as events:
        for position in lost:
            with pytest.raises(LogGoneError, match="were set back to older disks"):
                await events.resume(EVERYTHING, position)
            with pytest.raises(LogGoneError, match="were set back to older disks"):
                await events.read_acknowledged(position)
        await events.read_acknowledged(kept)
        reading = await events.resume(EVERYTHING, kept)
        assert_all_once_in_order(await take(reading, len(NEW)), NEW)
        reading.close()


async def test_a_stream_ends_whose_brokers_were_set_back_while_the_process_was_frozen(log: LosingLog) -> None:
    """Frozen, so that it does not see the log while that is too short."""
    port, ops_port = free_ports(2)
    told = {**variables(log.kafka, log.topics), "EVENT_API_PORT": str(port), "EVENT_API_OPS_PORT": str(ops_port)}
    await log.publish(KEPT)
    await log.keep()
    process = await Fork.start(main, "serve", "events", environment=told, out=NOWHERE, err=NOWHERE)
    try:
        await until(lambda: answers_ready(ops_port), within=60, what="the event API is ready")
        await log.publish(LOST)
        async with (
            client_of(f"http://127.0.0.1:{port}") as api,
            streamed(api, {"from": "beginning"}) as stream,
            asyncio.timeout(90),
        ):
            events = aiter(stream)
            assert len(await up_to(events, "caught-up")) == len(KEPT + LOST)
            process.send_signal(signal.SIGSTOP)
            await log.lose_and_grow()
            process.send_signal(signal.SIGCONT)
            with pytest.raises(StopAsyncIteration):
                await anext(events)

            async def is_gone() -> bool:
                answer = await api.get("/events", params={"after": stream.last_id}, headers=JSON)
                assert answer.status_code in {410, 503}
                return answer.status_code == 410

            await until(is_gone, within=60, what="the position is gone")
    finally:
        process.kill()
        await process.wait()
