"""Digests of ranges, and the kit's verification of a copy by them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import partial, reduce
from hashlib import sha256
from operator import xor
from typing import Any
from uuid import UUID

import httpx
import pytest

from chassis.settings import PostgresAddress
from events import Difference, RangeTooLargeError, StaleAnswerError, verification, verify_copy
from events.user_events import PublicUser, UserProfileChanged
from query_api.app import create_app
from query_api.users.digest import cuts_between
from tests.integration.query_api.conftest import make_settings, serving
from tests.integration.query_api.read_side import START, ReadSide, erased, moved, person


def digest(people: Iterable[PublicUser]) -> str:
    """As the page of the API says it."""
    hashes = (sha256(each.id.bytes + each.version.to_bytes(8, "big")).digest()[:16] for each in people)
    return f"{reduce(xor, (int.from_bytes(each) for each in hashes), 0):032x}"


async def ask(api: httpx.AsyncClient, query: str = "") -> list[dict[str, Any]]:
    answer = await api.get(f"/users/digest{query}")
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


async def test_the_whole_is_one_part_of_all_who_live(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    assert await ask(api) == [{"from": None, "to": None, "count": 0, "digest": "0" * 32}]
    people = [person(number) for number in range(5)]
    await read_side.register(*people)
    await read_side.apply(moved(people[0], "new@example.com"), erased(people[1]))
    people[:2] = [people[0].model_copy(update={"version": 2})]

    assert await ask(api) == [{"from": None, "to": None, "count": 4, "digest": digest(people)}]


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 7, 256])
async def test_parts_follow_each_other_and_are_together_the_range(
    api: httpx.AsyncClient, read_side: ReadSide, parts: int
) -> None:
    people = sorted((person(number) for number in range(40)), key=lambda each: each.id)
    await read_side.register(*people)
    first, last = people[3].id, people[33].id

    data = await ask(api, f"?from={first}&to={last}&parts={parts}")

    assert len(data) == parts
    assert [part["to"] for part in data] == [*(part["from"] for part in data[1:]), str(last)]
    assert data[0]["from"] == str(first)
    for part in data:
        inside = [each for each in people if UUID(part["from"]) <= each.id < UUID(part["to"])]
        assert (part["count"], part["digest"]) == (len(inside), digest(inside))
    assert sum(part["count"] for part in data) == 30


async def test_a_range_may_hold_nobody_and_end_at_the_ends(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    ends = [person(0, id=UUID(int=0)), person(1, id=UUID(int=2**128 - 1))]
    await read_side.register(*ends)
    least, greatest = (each.id for each in ends)

    for nobody in (
        f"?from={least}&to={least}",
        f"?from={greatest}&to={greatest}",
        f"?from={UUID(int=1)}&to={greatest}",
    ):
        for parts in (1, 5):
            data = await ask(api, f"{nobody}&parts={parts}")
            assert {part["count"] for part in data} == {0}
            borders = [part["from"] for part in data] + [data[-1]["to"]]
            assert borders == sorted(borders), "no part ends before it begins"
    assert [part["count"] for part in await ask(api, "?parts=4")] == [0, 1, 0, 1]
    assert [part["count"] for part in await ask(api, f"?from={greatest}")] == [1]


@pytest.mark.parametrize(
    "query", ["parts=0", "parts=257", "parts=x", "from=x", "to=1", f"from={UUID(int=2)}&to={UUID(int=1)}"]
)
async def test_refuses_what_is_no_range(api: httpx.AsyncClient, query: str) -> None:
    assert (await api.get(f"/users/digest?{query}")).status_code == 422


async def test_a_digest_that_takes_too_long_is_stopped(query_database: PostgresAddress, read_side: ReadSide) -> None:
    await read_side.connection.execute(
        "INSERT INTO users_g1 SELECT gen_random_uuid(), 1, 'active', n::text, n::text, now(), now(), ''"
        " FROM generate_series(1, 30000) AS n"
    )
    async with serving(create_app(make_settings(query_database, QUERY_DIGEST_MS=1))) as api:
        answer = await api.get("/users/digest")

    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/query-too-expensive")


def test_a_single_user_is_alone_after_one_cut() -> None:
    assert cuts_between(7, 8, 4) == [UUID(int=7), UUID(int=7), UUID(int=8)]
    assert cuts_between(7, 17, 4) == [UUID(int=7), UUID(int=12), UUID(int=17)]
    assert cuts_between(0, 10, 2) == [UUID(int=5)]


class Copy:
    """A subscriber's rows, and its way to the query API, which says that it gets on with each answer."""

    def __init__(self, api: httpx.AsyncClient, people: Iterable[PublicUser]) -> None:
        self.versions = {each.id: each.version for each in people}
        self.asked = 0
        self.as_ofs: list[datetime | None] = []
        self._api = api

    async def fetch(self, target: str) -> tuple[Any, str]:
        answer = (await self._api.get(target)).raise_for_status()
        self.asked += 1
        return answer.json(), (START.astimezone(UTC) + timedelta(seconds=2 * self.asked)).isoformat()

    async def rows(self, as_of: datetime | None) -> Iterable[tuple[UUID, int]]:
        self.as_ofs.append(as_of)
        return self.versions.items()


#: By the clock of the copy, as slow as that of the query API.
verify = partial(verify_copy, now=lambda: START.astimezone(UTC))


async def test_verification_names_every_user_who_differs_and_nobody_else(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    people = [person(number) for number in range(300)]
    await read_side.register(*people)
    copy = Copy(api, people)
    lost, older, extra = people[7].id, people[200].id, person().id
    del copy.versions[lost]
    copy.versions[older] = 9
    copy.versions[extra] = 4

    found = await verify(copy.fetch, copy.rows)

    assert found.differences == sorted(
        [Difference(lost, None, exists=True), Difference(older, 9, exists=True), Difference(extra, 4, exists=False)],
        key=lambda each: each.user_id,
    )
    assert (found.users, found.more) == (300, False)
    assert copy.as_ofs[0] is None
    assert None not in copy.as_ofs[1:]


async def test_a_copy_that_is_the_same_takes_one_question(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    people = [person(number) for number in range(20)]
    await read_side.register(*people)
    copy = Copy(api, people)

    assert (await verify(copy.fetch, copy.rows)).differences == []
    assert copy.asked == 1


async def test_a_large_copy_is_compared_in_several_questions(
    api: httpx.AsyncClient, read_side: ReadSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "QUESTION_USERS", 8)
    people = [person(number) for number in range(30)]
    await read_side.register(*people)
    copy = Copy(api, people)

    assert (await verify(copy.fetch, copy.rows)).differences == []
    assert copy.asked == 4


async def test_a_range_that_is_too_large_for_the_query_api_is_divided(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    """A copy that is nearly empty: nothing of it says how many users Muster has, and ids lie close together."""
    people = [person(number, id=UUID(int=2**120 + number * 2**112)) for number in range(30)]
    await read_side.register(*people)
    copy = Copy(api, people[:2])

    async def fetch(target: str) -> tuple[Any, str]:
        document, as_of = await copy.fetch(target)
        if sum(part["count"] for part in document["data"]) > 20:
            raise RangeTooLargeError
        return document, as_of

    found = await verify(fetch, copy.rows)

    assert {each.user_id for each in found.differences} == {each.id for each in people[2:]}


async def test_a_later_look_asks_about_several_users_at_once(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    people = [person(number) for number in range(20)]
    await read_side.register(*people)
    copy, now, most = Copy(api, []), 0, 0

    async def fetch(target: str) -> tuple[Any, str]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        answer = await copy.fetch(target)
        now -= 1
        return answer

    assert len((await verify(fetch, copy.rows)).differences) == len(people)
    assert 1 < most <= verification.AT_ONCE


@pytest.mark.parametrize("looks", [0, 1])
async def test_a_question_that_is_refused_however_narrow_is_told(
    api: httpx.AsyncClient, read_side: ReadSide, looks: int
) -> None:
    """In the first look, and in a later one, which asks about several users at once."""
    await read_side.register(*(person(number) for number in range(3)))
    copy = Copy(api, [])

    async def fetch(target: str) -> tuple[Any, str]:
        if len(copy.as_ofs) > looks:
            raise RangeTooLargeError
        return await copy.fetch(target)

    with pytest.raises(RangeTooLargeError):
        await verify(fetch, copy.rows)


async def test_what_differs_only_while_both_go_on_is_not_named(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    ann = person()
    await read_side.register(ann)
    copy = Copy(api, [])

    async def rows(as_of: datetime | None) -> Iterable[tuple[UUID, int]]:
        return [(ann.id, 1)] if as_of else []

    assert (await verify(copy.fetch, rows)).differences == []


@pytest.mark.parametrize("ahead", [0, 1], ids=["the copy is behind", "Muster is behind"])
async def test_a_user_who_is_changed_all_the_time_is_not_named_as_long_as_both_sides_get_on(
    api: httpx.AsyncClient, read_side: ReadSide, ahead: int
) -> None:
    """In each look one side is a version ahead of the other."""
    ann = person()
    await read_side.register(ann)
    copy, looks = Copy(api, []), 0

    async def rows(_: datetime | None) -> Iterable[tuple[UUID, int]]:
        nonlocal looks, ann
        looks += 1
        ann = ann.model_copy(update={"version": ann.version + 1})
        await read_side.apply(UserProfileChanged(user=ann, previous={}))
        return [(ann.id, ann.version + (1 if ahead else -1))]

    assert (await verify(copy.fetch, rows)).differences == []
    assert looks == 2


@pytest.mark.parametrize("version", [1, 900])
async def test_a_copy_that_stands_still_at_a_user_who_is_changed_all_the_time_is_found(
    api: httpx.AsyncClient, read_side: ReadSide, version: int
) -> None:
    """Behind, or ahead, where nobody ever was."""
    ann = person()
    await read_side.register(ann)
    copy = Copy(api, [])

    async def rows(_: datetime | None) -> Iterable[tuple[UUID, int]]:
        nonlocal ann
        ann = ann.model_copy(update={"version": ann.version + 1})
        await read_side.apply(UserProfileChanged(user=ann, previous={}))
        return [(ann.id, version)]

    assert (await verify(copy.fetch, rows)).differences == [Difference(ann.id, version, exists=True)]


async def test_both_sides_pass_the_time_at_which_the_look_before_was_over(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    """The query API may be behind what the copy has read, which its own As-Of does not say."""
    await read_side.register(person())
    copy, over = Copy(api, []), START.astimezone(UTC) + timedelta(seconds=9)
    passed = []

    async def fetch(target: str) -> tuple[Any, str]:
        document, as_of = await copy.fetch(target)
        passed.append(datetime.fromisoformat(as_of))
        return document, as_of

    async def rows(as_of: datetime | None) -> Iterable[tuple[UUID, int]]:
        if as_of:
            assert as_of >= over
            assert passed[-1] > over + verification.CLOCKS_DIFFER
        return await copy.rows(as_of)

    assert len((await verify_copy(fetch, rows, now=lambda: over)).differences) == 1
    assert len(copy.as_ofs) == verification.LOOKS


async def test_an_empty_copy_names_as_many_as_were_asked_for(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    await read_side.register(*(person(number) for number in range(30)))
    copy = Copy(api, [])

    found = await verify(copy.fetch, copy.rows, limit=5)

    assert (len(found.differences), found.more) == (5, True)
    assert {(each.version, each.exists) for each in found.differences} == {(None, True)}


async def test_a_read_side_that_stands_still_is_named(
    api: httpx.AsyncClient, read_side: ReadSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "ASK_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(verification, "PASSING_SECONDS", 0.05)
    copy = Copy(api, [person()])

    async def fetch(target: str) -> tuple[Any, str]:
        document, _ = await copy.fetch(target)
        return document, START.astimezone(UTC).isoformat()

    with pytest.raises(StaleAnswerError, match="has not got past"):
        await verify(fetch, copy.rows)
