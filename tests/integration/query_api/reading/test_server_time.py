"""The clock that stands while a server is silent."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chassis.settings import PostgresAddress
from query_api.reading.server_time import STALL_SECONDS, ServerTime, sign_of_life
from tests.servers.private_servers import nowhere
from tests.waiting import until

SECONDS = 5.0


class Server:
    """One that answers when it is told to."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked = 0

    async def ask(self) -> None:
        self.asked += 1
        await self.answer


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def time(server: Server) -> AsyncIterator[ServerTime]:
    clock = ServerTime(server.ask)
    yield clock
    clock.close()


async def passed(seconds: float) -> None:
    over = asyncio.get_running_loop().time() + seconds

    async def is_over() -> bool:
        return asyncio.get_running_loop().time() >= over

    await until(is_over, within=seconds + SECONDS, what=f"{seconds} s to pass")


async def test_it_stands_while_a_question_is_open_and_goes_on_from_there(server: Server, time: ServerTime) -> None:
    stood: list[float] = []
    time.doubt(stood.append)
    begun = time.now()
    await passed(0.2)
    assert time.now() == pytest.approx(begun, abs=0.01)

    server.answer.set_result(None)
    await passed(0.1)
    assert stood == [pytest.approx(0.2, abs=0.05)]
    assert 0.09 < time.now() - begun < 0.25


async def test_it_stands_no_longer_than_a_stall(time: ServerTime) -> None:
    time.doubt(lambda _: None)
    begun = time.now()
    await passed(STALL_SECONDS + 0.2)

    assert 0.1 < time.now() - begun < 0.4


async def test_there_is_one_question_at_a_time(server: Server, time: ServerTime) -> None:
    stood: list[float] = []
    for _ in range(3):
        time.doubt(stood.append)
    await passed(0.01)
    assert server.asked == 1

    server.answer.set_result(None)
    await passed(0.01)
    time.doubt(stood.append)
    await passed(0.01)
    assert (server.asked, len(stood)) == (2, 2)


async def test_a_refusal_is_an_answer(server: Server, time: ServerTime) -> None:
    stood: list[float] = []
    server.answer.set_exception(ConnectionRefusedError())
    time.doubt(stood.append)
    await passed(0.01)

    assert len(stood) == 1


async def test_postgresql_gives_a_sign_of_life_without_a_session(query_database: PostgresAddress) -> None:
    await asyncio.wait_for(sign_of_life(query_database), SECONDS)
    with pytest.raises(OSError, match="onnect"):
        await sign_of_life(nowhere())
