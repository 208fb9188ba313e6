"""Finds a broker that answers, before a client is started (docs/decisions/0037).

aiokafka tries the brokers it is told of in turn, each for as long as any request may take. One that is frozen takes a
connection and answers nothing, so it eats all the time that a client has to start in; and a relay starts four clients
before it publishes. Here each broker gets a head start before the next is tried beside it, as the servers of a database
are (chassis/postgres/servers.py).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from aiokafka.conn import create_conn
from aiokafka.errors import BrokerResponseError, KafkaError

#: A broker at work lets a client in within milliseconds, on a busy machine in tens.
HEAD_START_SECONDS: Final = 0.25
#: Where none has answered after so long, the client is started all the same, and says what it meets.
SEARCH_SECONDS: Final = 3.0


async def one_that_answers(brokers: str, login: Mapping[str, Any]) -> str:
    """Of brokers (`host:port,…`) one that answers now; all of them where none does, or there is one alone.

    `login` is what an aiokafka client is told beside them. A broker that refuses it answers, too: the client says so.
    """
    # In an order of chance: one that answers may be cut off from the others, and the next client is to try another.
    each = brokers.split(",")
    if len(each) == 1:
        return brokers
    asking = [
        asyncio.create_task(_ask(broker, login, number * HEAD_START_SECONDS))
        for number, broker in enumerate(random.sample(each, len(each)))
    ]
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(SEARCH_SECONDS):
                for answer in asyncio.as_completed(asking):
                    if broker := await answer:
                        return broker
        return brokers
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def _ask(broker: str, login: Mapping[str, Any], after_seconds: float) -> str:
    """The broker, if it answers; else an empty text."""
    await asyncio.sleep(after_seconds)
    host, _, port = broker.rpartition(":")
    try:
        connection = await create_conn(host, int(port), **login)
    except BrokerResponseError:  # it refuses, in so many words
        return broker
    except (KafkaError, OSError, TimeoutError):
        return ""
    connection.close()
    return broker
