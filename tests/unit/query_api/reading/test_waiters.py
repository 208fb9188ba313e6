"""Who is woken by what, how many looks are taken for how many waiters, and what a failed look does to them."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from uuid import UUID, uuid4

import pytest

from chassis.http.problems import Problem
from chassis.postgres.database import DatabaseUnavailableError
from query_api.protocol.problems import TOO_EXPENSIVE
from query_api.reading.waiters import DEAF_POLL_SECONDS, LOOK_IDS, POLL_SECONDS, Arrivals, Wanted
from tests.waiting import until

ANN, BOB = uuid4(), uuid4()
SECONDS = 5.0


class Table:
    """Versions that have come, and every look at them."""

    def __init__(self) -> None:
        self.versions: dict[UUID, int] = {}
        self.looks: list[tuple[str, dict[UUID, int]]] = []
        self.trouble: Exception | None = None

    async def look(self, projection: str, wanted: Wanted) -> Iterable[tuple[UUID, int]]:
        self.looks.append((projection, dict(wanted)))
        if self.trouble:
            raise self.trouble
        return [
            (user, self.versions[user]) for user, version in wanted.items() if self.versions.get(user, 0) >= version
        ]


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
async def arrivals(table: Table) -> AsyncIterator[Arrivals]:
    async with Arrivals.open(table.look, limit=2000, hearing=lambda: True) as opened:
        yield opened


@pytest.fixture
async def deaf(table: Table) -> AsyncIterator[Arrivals]:
    async with Arrivals.open(table.look, limit=2000, hearing=lambda: False) as opened:
        yield opened


async def looks(table: Table, number: int) -> None:
    async def taken() -> bool:
        return len(table.looks) >= number

    await until(taken, within=SECONDS, what=f"{number} looks")


async def test_a_notification_wakes_those_it_names_and_asks_nothing(arrivals: Arrivals, table: Table) -> None:
    with arrivals.waiter("users", {ANN: 1}) as for_ann, arrivals.waiter("users", {BOB: 1}) as for_bob:
        arrivals.moved("users", f"{uuid4()} {ANN}")

        assert (for_ann.moved.is_set(), for_bob.moved.is_set()) == (True, False)
    assert not table.looks


async def test_another_projection_wakes_nobody(arrivals: Arrivals) -> None:
    with arrivals.waiter("users", {ANN: 1}) as waiting:
        arrivals.moved("timeline", str(ANN))

        assert not waiting.moved.is_set()


@pytest.mark.parametrize("payload", ["", "not an id"])
async def test_a_notification_without_ids_has_one_look_taken_and_wakes_whose_versions_have_come(
    arrivals: Arrivals, table: Table, payload: str
) -> None:
    table.versions = {ANN: 2, BOB: 1}
    with arrivals.waiter("users", {ANN: 2}) as for_ann, arrivals.waiter("users", {BOB: 2}) as for_bob:
        arrivals.moved("users", payload)

        async with asyncio.timeout(POLL_SECONDS / 2):
            await for_ann.moved.wait()
        assert not for_bob.moved.is_set()
    assert table.looks == [("users", {ANN: 2, BOB: 2})]


async def test_all_who_wait_share_a_look(arrivals: Arrivals, table: Table) -> None:
    people = [uuid4() for _ in range(200)]
    waiters = [arrivals.waiter("users", {user: 1}) for user in people]
    entered = [waiter.__enter__() for waiter in waiters]

    await looks(table, 2)
    assert [len(wanted) for _, wanted in table.looks] == [200, 200]
    table.versions[people[7]] = 1
    async with asyncio.timeout(SECONDS):
        await entered[7].moved.wait()
    assert [waiter.moved.is_set() for waiter in entered].count(True) == 1

    for waiter in waiters:
        waiter.__exit__(None, None, None)


async def test_a_look_for_very_many_is_several_statements(arrivals: Arrivals, table: Table) -> None:
    people = {uuid4(): 1 for _ in range(LOOK_IDS + 1)}
    table.versions = dict(people)
    with arrivals.waiter("users", people) as waiter:
        async with asyncio.timeout(SECONDS):
            await waiter.moved.wait()

    assert [len(wanted) for _, wanted in table.looks] == [LOOK_IDS, 1]


async def test_who_waits_for_several_is_woken_when_the_last_has_come(deaf: Arrivals, table: Table) -> None:
    table.versions = {ANN: 1}
    with deaf.waiter("users", {ANN: 1, BOB: 1}) as waiter:
        await looks(table, 3)
        assert not waiter.moved.is_set()
        table.versions[BOB] = 1
        async with asyncio.timeout(SECONDS):
            await waiter.moved.wait()


async def test_of_two_who_wait_for_one_user_each_waits_for_their_own_version(deaf: Arrivals, table: Table) -> None:
    table.versions = {ANN: 2}
    with deaf.waiter("users", {ANN: 3}) as later, deaf.waiter("users", {ANN: 1}) as sooner:
        async with asyncio.timeout(SECONDS):
            await sooner.moved.wait()
        assert not later.moved.is_set()


async def test_many_notifications_without_ids_are_few_looks(arrivals: Arrivals, table: Table) -> None:
    loop = asyncio.get_running_loop()
    over = loop.time() + 10 * DEAF_POLL_SECONDS
    with arrivals.waiter("users", {ANN: 1}):
        while loop.time() < over:
            arrivals.moved("users", "")
            await asyncio.sleep(0)

    assert 2 <= len(table.looks) <= 12


async def test_looks_follow_each_other_sooner_while_nothing_is_heard(deaf: Arrivals, table: Table) -> None:
    began = asyncio.get_running_loop().time()
    with deaf.waiter("users", {ANN: 1}):
        await looks(table, 4)

    assert 3 * DEAF_POLL_SECONDS < asyncio.get_running_loop().time() - began < 3 * POLL_SECONDS


async def test_without_a_waiter_no_look_is_taken(deaf: Arrivals, table: Table) -> None:
    with deaf.waiter("users", {ANN: 1}):
        pass
    with deaf.waiter("timeline", {ANN: 1}):
        await looks(table, 3)

    assert {projection for projection, _ in table.looks} == {"timeline"}


@pytest.mark.parametrize(
    "trouble", [DatabaseUnavailableError("down"), Problem(TOO_EXPENSIVE, "slow")], ids=["down", "slow"]
)
async def test_a_look_that_finds_no_database_lets_them_wait_on(
    deaf: Arrivals, table: Table, trouble: Exception
) -> None:
    table.trouble = trouble
    with deaf.waiter("users", {ANN: 1}) as waiter:
        await looks(table, 2)
        assert not waiter.moved.is_set()
        table.trouble, table.versions = None, {ANN: 1}
        async with asyncio.timeout(SECONDS):
            await waiter.moved.wait()
        waiter.raise_failure()


async def test_a_look_that_fails_otherwise_is_told_to_all(deaf: Arrivals, table: Table) -> None:
    table.trouble = ZeroDivisionError()
    with deaf.waiter("users", {ANN: 1}) as for_ann, deaf.waiter("users", {BOB: 1}) as for_bob:
        for waiter in (for_ann, for_bob):
            async with asyncio.timeout(SECONDS):
                await waiter.moved.wait()
            with pytest.raises(ZeroDivisionError):
                waiter.raise_failure()


async def test_refuses_one_waiter_too_many_and_takes_the_next_when_one_has_gone(table: Table) -> None:
    arrivals = Arrivals(table.look, limit=1, hearing=lambda: True)
    with arrivals.waiter("users", {ANN: 1}):
        with pytest.raises(Problem) as raised, arrivals.waiter("users", {ANN: 1}):
            pass
        assert raised.value.type.slug == "busy"
        assert raised.value.headers["Retry-After"] == "1"

    with arrivals.waiter("users", {ANN: 1}):
        assert arrivals.waiting == 1


async def test_who_has_gone_leaves_nothing_behind(arrivals: Arrivals) -> None:
    with arrivals.waiter("users", {ANN: 1, BOB: 1}), arrivals.waiter("users", {ANN: 1}):
        pass

    assert arrivals._watches["users"]._waiters == {}
    assert arrivals._watches["users"]._timer is None
