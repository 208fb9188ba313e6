"""A publisher that loses a connection while it starts."""

import asyncio
import time
from typing import Any

import pytest
from aiokafka.protocol.transaction import InitProducerIdRequest

from outbox.publishing.producer import ConnectionLostError
from outbox.publishing.publisher import Publisher
from outbox.settings import RelaySettings

#: At once, with room for a busy machine; aiokafka alone would go on for START_SECONDS, 20 s.
AT_ONCE_SECONDS = 5


class CutOff(Publisher):
    """Its connections break as those to a broker that dies do, just when it asks for its producer id."""

    def __init__(self, settings: RelaySettings, **arguments: Any) -> None:
        super().__init__(settings, **arguments)
        client = self._producer.client
        send = client.send

        async def cut(node: Any, request: Any, **more: Any) -> Any:
            if isinstance(request, InitProducerIdRequest):
                for connection in list(client._conns.values()):
                    connection._writer.transport.abort()
                await asyncio.sleep(0)
            return await send(node, request, **more)

        client.send = cut


async def test_a_connection_lost_while_the_producer_starts_is_told_at_once(relay_settings: RelaySettings) -> None:
    began = time.monotonic()
    with pytest.raises(ConnectionLostError):
        await CutOff.open(relay_settings)

    assert time.monotonic() - began < AT_ONCE_SECONDS
