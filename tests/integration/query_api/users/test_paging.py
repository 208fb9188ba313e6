"""Paging as a property: the pages joined are the sorted whole, whatever the data, sort, filter and page size."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.text_keys import text_key
from events.times import rfc3339
from events.user_events import PublicUser
from query_api.users.filters import SORTS
from tests.integration.query_api.read_side import START, ReadSide, erased, moved, person

Query: TypeAlias = dict[str, Any]

#: Few of each, so that ties are everywhere; letters on which case rules disagree.
NAMES = st.text(alphabet="aAbİß\u017fςΣ", min_size=1, max_size=3)
SECONDS = st.integers(min_value=0, max_value=3)
STATUSES = st.sampled_from(["active", "deactivated"])
PEOPLE = st.lists(st.tuples(NAMES, NAMES, SECONDS, SECONDS, STATUSES), max_size=25)
TIMES = SECONDS.map(lambda seconds: rfc3339(START + timedelta(seconds=seconds)))
QUERIES = st.fixed_dictionaries(
    {},
    optional={
        "status": STATUSES,
        "username": NAMES,
        "username_prefix": NAMES,
        "email_prefix": NAMES,
        "created_after": TIMES,
        "created_before": TIMES,
        "updated_after": TIMES,
    },
)
EXAMPLES = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def someone(name: str, address: str, created: int, updated: int, status: str) -> PublicUser:
    return person(
        username=name,
        email=f"{address}@example.com",
        created_at=START + timedelta(seconds=created),
        updated_at=START + timedelta(seconds=created + updated),
        status=status,
    )


def key(user: PublicUser, sort: str) -> tuple[Any, Any]:
    name = sort.removeprefix("-")
    value = getattr(user, name)
    return (text_key(value).encode() if isinstance(value, str) else value, user.id)


def matches(user: PublicUser, query: Query) -> bool:
    checks: dict[str, Callable[[Any], bool]] = {
        "status": lambda wanted: user.status == wanted,
        "username": lambda wanted: text_key(user.username) == text_key(wanted),
        "username_prefix": lambda wanted: text_key(user.username).startswith(text_key(wanted)),
        "email_prefix": lambda wanted: text_key(user.email).startswith(text_key(wanted)),
        "created_after": lambda wanted: rfc3339(user.created_at) > wanted,
        "created_before": lambda wanted: rfc3339(user.created_at) < wanted,
        "updated_after": lambda wanted: rfc3339(user.updated_at) > wanted,
    }
    return all(checks[name](wanted) for name, wanted in query.items())


async def page(api: httpx.AsyncClient, query: Query) -> dict[str, Any]:
    answer = await api.get("/users", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@EXAMPLES
@given(people=PEOPLE, query=QUERIES, sort=st.sampled_from(sorted(SORTS)), limit=st.integers(1, 7))
async def test_the_pages_joined_are_the_sorted_whole(
    *, api: httpx.AsyncClient, read_side: ReadSide, people: list[Any], query: Query, sort: str, limit: int
) -> None:
    users = [someone(*fields) for fields in people]
    await read_side.clear()
    await read_side.register(*users)
    whole = sorted((user for user in users if matches(user, query)), key=lambda user: key(user, sort))
    if sort.startswith("-"):
        whole.reverse()

    seen: list[str] = []
    found = await page(api, {**query, "sort": sort, "limit": limit})
    while found["has_more"]:
        assert len(found["data"]) == limit
        seen += [user["id"] for user in found["data"]]
        found = await page(api, {"cursor": found["next_cursor"], "limit": limit})
    seen += [user["id"] for user in found["data"]]

    assert seen == [str(user.id) for user in whole]


@EXAMPLES
@given(
    people=st.lists(st.tuples(NAMES, NAMES, SECONDS, SECONDS, STATUSES), min_size=8, max_size=25),
    sort=st.sampled_from(sorted(SORTS)),
    limit=st.integers(1, 4),
    data=st.data(),
)
async def test_who_stays_in_place_appears_once_whatever_is_written_between_pages(
    *, api: httpx.AsyncClient, read_side: ReadSide, people: list[Any], sort: str, limit: int, data: st.DataObject
) -> None:
    users = [someone(*fields) for fields in people]
    await read_side.clear()
    await read_side.register(*users)
    staying, restless = users[: len(users) // 2], users[len(users) // 2 :]

    seen: list[str] = []
    query: Query = {"sort": sort, "limit": limit}
    while True:
        found = await page(api, query)
        seen += [user["id"] for user in found["data"]]
        if not found["has_more"]:
            break
        query = {"cursor": found["next_cursor"], "limit": limit}
        await read_side.register(someone(*data.draw(st.tuples(NAMES, NAMES, SECONDS, SECONDS, STATUSES))))
        if restless:
            leaving = restless.pop()
            await read_side.apply(erased(leaving) if data.draw(st.booleans()) else moved(leaving, "ab@example.com"))

    assert len([identifier for identifier in seen if identifier in {str(user.id) for user in staying}]) == len(staying)
    assert {str(user.id) for user in staying} <= set(seen)


@pytest.mark.parametrize("sort", ["username", "-updated_at"])
async def test_pages_never_overlap_while_nothing_is_written(
    api: httpx.AsyncClient, read_side: ReadSide, sort: str
) -> None:
    await read_side.register(*(someone("a", "b", 0, 0, "active") for _ in range(30)))

    seen: list[str] = []
    found = await page(api, {"sort": sort, "limit": 7})
    while found["has_more"]:
        seen += [user["id"] for user in found["data"]]
        found = await page(api, {"cursor": found["next_cursor"], "limit": 7})
    seen += [user["id"] for user in found["data"]]

    assert len(seen) == len(set(seen)) == 30
