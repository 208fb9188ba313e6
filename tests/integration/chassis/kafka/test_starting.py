"""A client whose start is given up leaves no connection behind, whenever that is."""

import asyncio
import gc
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.conn import AIOKafkaConnection

from chassis.kafka.client import REQUEST_SECONDS, client_arguments
from chassis.kafka.refusals import start_client
from chassis.settings import Kafka


async def give_up_at(question: int, kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> int:
    """Start a client, and give that up as it asks so many questions; return how many it asked."""
    arguments = client_arguments(kafka)
    consumer = AIOKafkaConsumer(**arguments)
    asked, send = 0, AIOKafkaConnection.send

    def noting(self: AIOKafkaConnection, *request: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == question:
            asyncio.get_running_loop().call_soon(starting.cancel)
        return send(self, *request, **options)

    with monkeypatch.context() as patch:
        patch.setattr(AIOKafkaConnection, "send", noting)
        starting = asyncio.create_task(start_client(consumer, arguments, REQUEST_SECONDS))
        await asyncio.gather(starting, return_exceptions=True)
        await consumer.stop()
    return asked


async def test_a_start_may_be_given_up_at_any_of_its_questions(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = await give_up_at(0, kafka, monkeypatch)
    for question in range(1, questions + 1):
        await give_up_at(question, kafka, monkeypatch)
        gc.collect()

    assert questions > 1
