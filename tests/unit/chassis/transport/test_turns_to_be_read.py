"""New requests are read a few in each of the loop's turns, so that what was begun goes on in between."""

import asyncio
from typing import Any

import pytest

from chassis.http.health import PROBES, Health, public_routes
from chassis.http.listening import server_config
from chassis.http.transport.connection import HttpConnection
from chassis.http.transport.connections import BEGUN_AT_ONCE, LAST_AT_ONCE, PROBES_AT_ONCE, Connections
from chassis.http.transport.limits import PARSED_BYTES, Limits
from chassis.settings import Transport
from tests.unit.chassis.transport.serving import echo, listening

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
        connections.in_turn(reader, GET)
    connections.in_turn(readers[-1], GET)  # more of it has come
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
        connections.in_turn(reader, GET)

    connections.remove(readers[-3])
    connections.read_now(readers[-1])
    connections.read_now(readers[-1])
    await asyncio.sleep(0)

    assert were_read == [*range(BEGUN_AT_ONCE), BEGUN_AT_ONCE + 2, BEGUN_AT_ONCE + 1]


async def test_a_probe_is_read_ahead_and_a_flood_of_probes_keeps_nobody_waiting() -> None:
    connections, were_read = Connections(Limits.of(Transport()), probes=["/health"]), list[int]()
    for number in range(3 * BEGUN_AT_ONCE):
        connections.in_turn(Reader(number, were_read), GET)
    for number in range(1000, 1000 + 3 * PROBES_AT_ONCE):
        connections.in_turn(Reader(number, were_read), b"GET /health HTTP/1.1\r\n")
    read_by_turn = []
    for _ in range(3):
        read_by_turn.append((sum(number < 1000 for number in were_read), sum(number >= 1000 for number in were_read)))
        await asyncio.sleep(0)

    assert read_by_turn == [(turn * BEGUN_AT_ONCE, turn * PROBES_AT_ONCE) for turn in (1, 2, 3)]


@pytest.mark.parametrize("what", [b"GET /healthy HTTP", b"POST /health HTTP", b"GET /a?/health HTTP", b"GET /heal"])
async def test_what_is_no_probe_waits_like_all_others(what: bytes) -> None:
    connections, were_read = Connections(Limits.of(Transport()), probes=["/health"]), list[int]()
    for number in range(BEGUN_AT_ONCE + 1):
        connections.in_turn(Reader(number, were_read), what)

    assert were_read == list(range(BEGUN_AT_ONCE))


async def test_a_mistake_of_ours_in_reading_costs_one_connection_alone() -> None:
    class Broken(Reader):
        ended = False

        def read(self) -> None:
            raise KeyError("app")

        def give_way(self) -> None:
            self.ended = True

    connections, were_read = Connections(Limits.of(Transport())), list[int]()
    readers = [Reader(number, were_read) for number in range(2 * BEGUN_AT_ONCE)]
    readers[0], readers[BEGUN_AT_ONCE] = broken = Broken(0, were_read), Broken(BEGUN_AT_ONCE, were_read)
    for reader in readers:
        connections.in_turn(reader, GET)
    await asyncio.sleep(0)

    assert were_read == [number for number in range(2 * BEGUN_AT_ONCE) if number % BEGUN_AT_ONCE]
    assert all(reader.ended for reader in broken)


def test_every_listener_knows_the_probes() -> None:
    made: Any = server_config(echo, Transport()).http
    connections: Connections = made.keywords["connections"]

    assert all(f"GET {path} HTTP/1.1".encode().startswith(connections._probing) for path in PROBES)
    assert {route.path for route in public_routes(Health())} == PROBES


@pytest.mark.parametrize("half_closes", [False, True])
async def test_each_of_hundreds_that_come_at_once_is_answered_in_its_turn(
    half_closes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = [0]
    begin, next_turn = HttpConnection._begin, Connections._next_turn

    def noting_begin(self: HttpConnection) -> None:
        begun[-1] += 1
        begin(self)

    def noting_turn(self: Connections) -> None:
        begun.append(0)
        next_turn(self)

    monkeypatch.setattr(HttpConnection, "_begin", noting_begin)
    monkeypatch.setattr(Connections, "_next_turn", noting_turn)
    async with listening() as listener:
        clients = [await listener.connect() for _ in range(5 * BEGUN_AT_ONCE)]
        for client in clients:
            client.writer.write(GET * 3)
            if half_closes:
                client.stop_sending()

        answers = [await client.answer() for client in clients for _ in range(3)]
        rests = [await client.rest() for client in clients if half_closes]
        for client in clients:
            client.writer.transport.abort()

    assert [answer.status for answer in answers] == [200] * len(clients) * 3
    assert set(rests) <= {b""}
    assert sum(begun) == len(answers)
    # Also of those that come one behind the other, and of clients that send no more.
    assert max(begun) <= BEGUN_AT_ONCE


SMALL_CHUNKS = b"1\r\nx\r\n" * (PARSED_BYTES // 2)
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + SMALL_CHUNKS


@pytest.mark.parametrize(
    ("sent", "status"),
    [(GET, 200), (GET[:-2], 400), (CHUNKED + b"0\r\n\r\n", 200), (CHUNKED, 400)],
    ids=["whole head", "half a head", "whole body", "half a body"],
)
async def test_who_sends_no_more_while_it_waits_is_answered_as_anybody(sent: bytes, status: int) -> None:
    async with listening() as listener:
        clients = [await listener.connect() for _ in range(2 * BEGUN_AT_ONCE)]
        for client in clients:
            client.writer.write(sent)
            client.stop_sending()

        answers = [await client.answer() for client in clients]
        rests = [await client.rest() for client in clients]
        for client in clients:
            client.writer.transport.abort()

    assert {answer.status for answer in answers} == {status}
    assert set(rests) == {b""}


async def test_what_may_wait_is_read_after_others_and_a_few_at_a_time() -> None:
    connections, were_read = Connections(Limits.of(Transport())), list[int]()
    waiting = [Reader(number, were_read) for number in range(2 * LAST_AT_ONCE + 3)]
    others = [Reader(1000 + number, were_read) for number in range(BEGUN_AT_ONCE)]

    for reader in waiting:
        connections.in_turn(reader, GET, 0, lambda data, at: data[at:] == GET)
    for reader in others:
        connections.in_turn(reader, GET, 0, lambda data, at: data[at:] != GET)
    connections.in_turn(waiting[0], GET + GET, 0)  # more of it has come
    connections.remove(waiting[1])
    connections.read_now(waiting[2])
    lengths = list[int]()
    while len(were_read) < len(waiting) + len(others) - 1:
        lengths.append(len(were_read))
        connections._read_last()

    assert were_read == [*range(1000, 1000 + len(others)), 2, 0, *range(3, len(waiting))]
    first = len(others) + 1
    assert lengths == [first, first + LAST_AT_ONCE, first + 2 * LAST_AT_ONCE], "a few at a time"
