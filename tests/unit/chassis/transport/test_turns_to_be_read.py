"""New requests are read a few in each of the loop's turns, so that what was begun goes on in between."""

import asyncio

import pytest

from chassis.http.transport.connections import BEGUN_AT_ONCE, Connections
from chassis.http.transport.limits import Limits
from chassis.settings import Transport
from tests.unit.chassis.transport.serving import listening

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


class Reader:
    """A connection of which only the reading is of interest."""

    def __init__(self, number: int, were_read: list[int]) -> None:
        self._number = number
        self._were_read = were_read

    def read(self) -> None:
        self._were_read.append(self._number)

    def look(self, now: float) -> None:
        raise NotImplementedError

    def give_way(self) -> None:
        raise NotImplementedError


async def test_so_many_are_read_in_a_turn_and_all_in_the_order_of_coming() -> None:
    connections, were_read = Connections(Limits.of(Transport())), list[int]()
    readers = [Reader(number, were_read) for number in range(BEGUN_AT_ONCE * 2 + 5)]

    for reader in readers:
        connections.in_turn(reader)
    connections.in_turn(readers[-1])  # more of it has come
    read_by_turn = [len(were_read)]
    for _ in range(3):
        await asyncio.sleep(0)
        read_by_turn.append(len(were_read))

    assert read_by_turn == [BEGUN_AT_ONCE, 2 * BEGUN_AT_ONCE, len(readers), len(readers)]
    assert were_read == list(range(len(readers)))


async def test_who_ends_is_read_at_once_or_not_at_all() -> None:
    connections, were_read = Connections(Limits.of(Transport())), list[int]()
    readers = [Reader(number, were_read) for number in range(BEGUN_AT_ONCE + 3)]
    for reader in readers:
        connections.in_turn(reader)

    connections.remove(readers[-3])
    connections.read_now(readers[-1])
    connections.read_now(readers[-1])
    await asyncio.sleep(0)

    assert were_read == [*range(BEGUN_AT_ONCE), BEGUN_AT_ONCE + 2, BEGUN_AT_ONCE + 1]


@pytest.mark.parametrize("half_closes", [False, True])
async def test_each_of_hundreds_that_come_at_once_is_answered(half_closes: bool) -> None:
    async with listening() as listener:
        clients = [await listener.connect() for _ in range(5 * BEGUN_AT_ONCE)]
        for client in clients:
            client.writer.write(GET)
            if half_closes:
                client.stop_sending()

        answers = await asyncio.gather(*(client.answer() for client in clients))
        for client in clients:
            client.writer.transport.abort()

    assert {answer.status for answer in answers} == {200}
