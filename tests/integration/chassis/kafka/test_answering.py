"""A client starts at a broker that answers, whichever others are frozen or gone; against a real broker."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from chassis.kafka.client import admin, answering
from chassis.settings import Kafka
from local_stack.ports import LOCALHOST, free_port

#: Of so many starts at a broker by chance, one begins with the frozen one, but for once in a thousand.
STARTS = 10


@contextmanager
def frozen() -> Iterator[str]:
    """A broker as SIGSTOP leaves it: the system takes connections, and nobody answers."""
    with socket.create_server((LOCALHOST, 0)) as listener:
        yield f"{LOCALHOST}:{listener.getsockname()[1]}"


def beside(kafka: Kafka, *others: str) -> Kafka:
    """The broker among others."""
    return kafka.model_copy(update={"kafka_bootstrap_servers": ",".join((*others, kafka.kafka_bootstrap_servers))})


async def test_a_frozen_broker_keeps_no_client_from_starting(kafka: Kafka) -> None:
    with frozen() as silent:
        for _ in range(STARTS):
            # Its start has a limit, which is also that of one request.
            async with admin(beside(kafka, silent)) as client:
                assert (await client.describe_cluster())["brokers"]


async def test_frozen_and_dead_ones_are_left_out(kafka: Kafka) -> None:
    with frozen() as silent:
        gone = f"{LOCALHOST}:{free_port()}"
        found = [await answering(beside(kafka, gone, silent)) for _ in range(STARTS)]
    assert {each.kafka_bootstrap_servers for each in found} == {kafka.kafka_bootstrap_servers}


async def test_where_none_answers_the_client_is_told_of_all() -> None:
    with frozen() as silent, frozen() as another:
        settings = Kafka.model_construct(kafka_bootstrap_servers=f"{silent},{another}")
        assert await answering(settings) == settings


async def test_one_alone_is_not_asked() -> None:
    with frozen() as silent:
        settings = Kafka.model_construct(kafka_bootstrap_servers=silent)
        async with asyncio.timeout(0):
            # It would have to wait for an answer.
            assert await answering(settings) == settings
