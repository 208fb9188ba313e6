"""A position after which something may be missing is refused; one after which nothing can be is not."""

import asyncio
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from chassis.kafka.client import admin, delete_topic, ensure_topics
from chassis.settings import Kafka, Topics
from event_api.log import tail
from event_api.log.positions import LogPosition, PositionSeal
from outbox.topics import wanted_topics
from tests.event_streams import streamed
from tests.integration.event_api.conftest import SECRET
from tests.integration.projectors.stream import Publisher, lives
from tests.waiting import until

JSON = {"Accept": "application/json"}


async def page(api: httpx.AsyncClient, **parameters: str) -> tuple[int, dict[str, Any]]:
    answer = await api.get("/events", params=parameters, headers=JSON)
    return answer.status_code, answer.json()


async def test_a_position_is_gone_where_records_or_erasures_may_be(
    api: httpx.AsyncClient, kafka: Kafka, topics: Topics, publisher: Publisher
) -> None:
    seal = PositionSeal([SECRET])
    _, nothing = await page(api)
    await publisher.publish(lives(6, 20, seed=1))
    _, end = await page(api)
    young, old = seal.open(nothing["next"]), int(time.time() - timedelta(days=8).total_seconds())
    last = seal.open(end["next"])

    def text(offsets: tuple[int, ...], seen: int) -> str:
        return seal.seal(LogPosition(young.topic_id, seen, offsets))

    # Nothing came since, or what came is younger than tombstones are kept.
    assert (await page(api, after=text(last.offsets, old)))[0] == 200
    assert (await page(api, after=text(young.offsets, old)))[0] == 200
    # The topic was shorter, or had other partitions.
    beyond = text((last.offsets[0] + 1, *last.offsets[1:]), young.seen)
    fewer = text(last.offsets[1:], young.seen)
    for wrong in (beyond, fewer):
        status, problem = await page(api, after=wrong)
        assert (status, problem["type"]) == (410, "/problems/position-gone")


async def test_a_topic_that_was_made_again_ends_streams_and_has_other_positions_also_after_a_clock_went_back(
    api: httpx.AsyncClient, kafka: Kafka, topics: Topics, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publisher.publish(lives(3, 5, seed=2))
    _, before = await page(api, **{"from": "beginning"})
    async with streamed(api) as stream:
        events = aiter(stream)
        put_back = SimpleNamespace(time=lambda: time.time() - 86_400, monotonic=time.monotonic)
        monkeypatch.setattr(tail, "time", put_back)
        async with admin(kafka) as client:
            await delete_topic(client, topics.events_topic)
            await ensure_topics(client, wanted_topics(topics))
        async with asyncio.timeout(60):
            with pytest.raises(StopAsyncIteration):
                await anext(events)

    async def is_gone() -> bool:
        return (await page(api, after=before["next"]))[0] == 410

    await until(is_gone, within=60, what="the event API sees the other topic")
    assert (await page(api, **{"from": "beginning"}))[1]["data"] == []
