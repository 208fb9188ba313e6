"""Who is woken by what, how many polls there are for how many waiters, and what a failed poll does to them."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from uuid import UUID, uuid4

import pytest

from chassis.http.problems import Problem
from chassis.postgres.database import DatabaseUnavailableError
from query_api.protocol.problems import TOO_EXPENSIVE
from query_api.reading.versions import WantedVersions
from query_api.reading.waiters import POLL_IDS, POLL_SECONDS, SHORTEST_POLL_SECONDS, Waiters
from tests.waiting import until

ANN, BOB = uuid4(), uuid4()
SECONDS = 5.0


class Table:
    """Versions that have come, and every poll of them."""

    def __init__(self) -> None:
        self.versions: dict[UUID, int] = {}
        self.polls: list[tuple[str, dict[UUID, int]]] = []
        self.trouble: Exception | None = None

    async def read_reached(self, projection: str, wanted: WantedVersions) -> Iterable[tuple[UUID, int]]:
        self.polls.append((projection, dict(wanted)))
        if self.trouble:
            raise self.trouble
        return [
            (user, self.versions[user]) for user, version in wanted.items() if self.versions.get(user, 0) >= version
        ]


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
async def notified(table: Table) -> AsyncIterator[Waiters]:
    async with Waiters.open(table.read_reached, limit=2000, notified=lambda: True) as opened:
        yield opened


@pytest.fixture
async def unnotified(table: Table) -> AsyncIterator[Waiters]:
    async with Waiters.open(table.read_reached, limit=2000, notified=lambda: False) as opened:
        yield opened


async def polls(table: Table, number: int) -> None:
    async def taken() -> bool:
        return len(table.polls) >= number

    await until(taken, within=SECONDS, what=f"{number} polls")


async def test_a_notification_wakes_those_it_names_and_asks_nothing(notified: Waiters, table: Table) -> None:
    with notified.waiter("users", {ANN: 1}) as for_ann, notified.waiter("users", {BOB: 1}) as for_bob:
        notified.notify("users", f"{uuid4()} {ANN}")

        assert (for_ann.moved.is_set(), for_bob.moved.is_set()) == (True, False)
    assert not table.polls


async def test_another_projection_wakes_nobody(notified: Waiters) -> None:
    with notified.waiter("users", {ANN: 1}) as waiting:
        notified.notify("timeline", str(ANN))

        assert not waiting.moved.is_set()


@pytest.mark.parametrize("payload", ["", "not an id"])
async def test_a_notification_without_ids_makes_one_poll_and_wakes_whose_versions_have_come(
    notified: Waiters, table: Table, payload: str
) -> None:
    table.versions = {ANN: 2, BOB: 1}
    with notified.waiter("users", {ANN: 2}) as for_ann, notified.waiter("users", {BOB: 2}) as for_bob:
        notified.notify("users", payload)

        async with asyncio.timeout(POLL_SECONDS / 2):
            await for_ann.moved.wait()
        assert not for_bob.moved.is_set()
    assert table.polls == [("users", {ANN: 2, BOB: 2})]


async def test_all_who_wait_share_a_poll(notified: Waiters, table: Table) -> None:
    people = [uuid4() for _ in range(200)]
    waiters = [notified.waiter("users", {user: 1}) for user in people]
    entered = [waiter.__enter__() for waiter in waiters]

    await polls(table, 2)
    assert [len(wanted) for _, wanted in table.polls] == [200, 200]
    table.versions[people[7]] = 1
    async with asyncio.timeout(SECONDS):
        await entered[7].moved.wait()
    assert [waiter.moved.is_set() for waiter in entered].count(True) == 1

    for waiter in waiters:
        waiter.__exit__(None, None, None)


async def test_a_poll_for_very_many_is_several_statements(notified: Waiters, table: Table) -> None:
    people = {uuid4(): 1 for _ in range(POLL_IDS + 1)}
    table.versions = dict(people)
    with notified.waiter("users", people) as waiter:
        async with asyncio.timeout(SECONDS):
            await waiter.moved.wait()

    assert [len(wanted) for _, wanted in table.polls] == [POLL_IDS, 1]


async def test_who_waits_for_several_is_woken_when_the_last_has_come(unnotified: Waiters, table: Table) -> None:
    table.versions = {ANN: 1}
    with unnotified.waiter("users", {ANN: 1, BOB: 1}) as waiter:
        await polls(table, 3)
        assert not waiter.moved.is_set()
        table.versions[BOB] = 1
        async with asyncio.timeout(SECONDS):
            await waiter.moved.wait()


async def test_of_two_who_wait_for_one_user_each_waits_for_their_own_version(unnotified: Waiters, table: Table) -> None:
    table.versions = {ANN: 2}
    with unnotified.waiter("users", {ANN: 3}) as later, unnotified.waiter("users", {ANN: 1}) as sooner:
        async with asyncio.timeout(SECONDS):
            await sooner.moved.wait()
        assert not later.moved.is_set()


async def test_many_notifications_without_ids_are_few_polls(notified: Waiters, table: Table) -> None:
    loop = asyncio.get_running_loop()
    over = loop.time() + 10 * SHORTEST_POLL_SECONDS
    with notified.waiter("users", {ANN: 1}):
        while loop.time() < over:
            notified.notify("users", "")
            await asyncio.sleep(0)

    assert 2 <= len(table.polls) <= 12


async def test_polls_follow_each_other_sooner_while_nothing_is_notified(unnotified: Waiters, table: Table) -> None:
    began = asyncio.get_running_loop().time()
    with unnotified.waiter("users", {ANN: 1}):
        await polls(table, 4)

    assert 3 * SHORTEST_POLL_SECONDS < asyncio.get_running_loop().time() - began < 3 * POLL_SECONDS


async def test_without_a_waiter_nobody_polls(unnotified: Waiters, table: Table) -> None:
    with unnotified.waiter("users", {ANN: 1}):
        pass
    with unnotified.waiter("timeline", {ANN: 1}):
        await polls(table, 3)

    assert {projection for projection, _ in table.polls} == {"timeline"}


@pytest.mark.parametrize(
    "trouble", [DatabaseUnavailableError("down"), Problem(TOO_EXPENSIVE, "slow")], ids=["down", "slow"]
)
async def test_a_poll_that_finds_no_database_lets_them_wait_on(
    unnotified: Waiters, table: Table, trouble: Exception
) -> None:
    table.trouble = trouble
    with unnotified.waiter("users", {ANN: 1}) as waiter:
        await polls(table, 2)
        assert not waiter.moved.is_set()
        table.trouble, table.versions = None, {ANN: 1}
        async with asyncio.timeout(SECONDS):
            await waiter.moved.wait()
        waiter.raise_failure()


async def test_a_poll_that_fails_otherwise_is_told_to_all(unnotified: Waiters, table: Table) -> None:
    table.trouble = ZeroDivisionError()
    with unnotified.waiter("users", {ANN: 1}) as for_ann, unnotified.waiter("users", {BOB: 1}) as for_bob:
        for waiter in (for_ann, for_bob):
            async with asyncio.timeout(SECONDS):
                await waiter.moved.wait()
            with pytest.raises(ZeroDivisionError):
                waiter.raise_failure()


async def test_refuses_one_waiter_too_many_and_takes_the_next_when_one_has_gone(table: Table) -> None:
    notified = Waiters(table.read_reached, limit=1, notified=lambda: True)
    with notified.waiter("users", {ANN: 1}):
        with pytest.raises(Problem) as raised, notified.waiter("users", {ANN: 1}):
            pass
        assert raised.value.type.slug == "busy"
        assert raised.value.headers["Retry-After"] == "1"

    with notified.waiter("users", {ANN: 1}):
        assert notified.waiting == 1


async def test_who_has_gone_leaves_nothing_behind(notified: Waiters) -> None:
    with notified.waiter("users", {ANN: 1, BOB: 1}), notified.waiter("users", {ANN: 1}):
        pass

    assert notified._projections["users"]._waiters == {}
    assert notified._projections["users"]._timer is None
