import json
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from chassis.settings import PostgresAddress
from events.times import rfc3339
from query_api.app import create_app
from query_api.dependencies import QUERIES
from tests.integration.query_api.conftest import make_settings, serving
from tests.integration.query_api.read_side import START, ReadSide, erased, moved, person, shuffled
from tests.waiting import until


async def names(api: httpx.AsyncClient, **query: Any) -> list[str]:
    answer = await api.get("/users", params=query)
    assert answer.status_code == 200, answer.text
    return [user["username"] for user in answer.json()["data"]]


async def test_an_empty_list_is_a_page_without_a_next(api: httpx.AsyncClient) -> None:
    answer = await api.get("/users")

    assert answer.json() == {"data": [], "next_cursor": None, "has_more": False}
    assert "link" not in answer.headers


async def test_users_are_sent_as_they_were_projected_newest_first(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    ann = person(1, attributes={"née": ['"', "\\", {"🎈": None}]}, display_name="Änn\u2028")
    await read_side.register(person(0), ann)

    answer = await api.get("/users")

    assert answer.json()["data"][0] == ann.model_dump(mode="json")
    assert [user["username"] for user in answer.json()["data"]] == ["User1", "User0"]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("created_at", "a B ß c"),
        ("-created_at", "c ß B a"),
        ("username", "a B c ß"),
        ("-username", "ß c B a"),
        ("email", "c ß B a"),
        ("-email", "a B ß c"),
        ("updated_at", "B ß c a"),
        ("-updated_at", "a c ß B"),
    ],
)
async def test_sorts_by_keys_in_code_point_order(
    api: httpx.AsyncClient, read_side: ReadSide, sort: str, expected: str
) -> None:
    people = [person(number, username=name, email=f"{9 - number}@example.com") for number, name in enumerate("aBßc")]
    await read_side.register(*shuffled(people))
    await read_side.apply(moved(people[0], "9@example.com", at=START + timedelta(days=1)))

    assert " ".join(await names(api, sort=sort)) == expected


SELECTIONS: list[tuple[dict[str, str], set[str]]] = [
    ({"status": "deactivated"}, {"Bob"}),
    ({"status": "active"}, {"ann", "Anna", "ﬁnn"}),
    ({"email": "ANN@EXAMPLE.COM"}, {"ann"}),
    ({"email": "an@example.com"}, set()),
    ({"username": "ANNA"}, {"Anna"}),
    ({"username": "finn"}, {"ﬁnn"}),
    ({"username_prefix": "AN"}, {"ann", "Anna"}),
    ({"username_prefix": "fi"}, {"ﬁnn"}),
    ({"username_prefix": "an%"}, set()),
    ({"username_prefix": "_nn"}, set()),
    ({"email_prefix": "Ann"}, {"ann", "Anna"}),
    ({"email_prefix": "ann@"}, {"ann"}),
    ({"created_after": rfc3339(START)}, {"Anna", "Bob", "ﬁnn"}),
    ({"created_before": rfc3339(START + timedelta(seconds=2))}, {"ann", "Anna"}),
    ({"created_after": rfc3339(START), "created_before": rfc3339(START + timedelta(seconds=2))}, {"Anna"}),
    ({"updated_after": rfc3339(START + timedelta(seconds=2))}, {"ﬁnn"}),
    ({"username_prefix": "a", "email": "ann@example.com", "status": "active"}, {"ann"}),
    ({"username_prefix": "b", "status": "active"}, set()),
    ({"created_after": "9999-12-31T23:59:59Z"}, set()),
]


@pytest.mark.parametrize("sort", ["-created_at", "email"])
async def test_filters_combine(api: httpx.AsyncClient, read_side: ReadSide, sort: str) -> None:
    people = [
        person(0, username="ann", email="ann@example.com"),
        person(1, username="Anna", email="anna@example.com"),
        person(2, username="Bob", email="bob@example.com", status="deactivated"),
        person(3, username="ﬁnn", email="finn@example.com"),
    ]
    await read_side.register(*people)

    for query, expected in SELECTIONS:
        assert set(await names(api, sort=sort, **query)) == expected, query


async def test_ids_select_those_who_exist_however_often_they_are_named(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    people = [person(number) for number in range(5)]
    await read_side.register(*people)
    await read_side.apply(erased(people[3]))

    chosen = [people[number].id for number in (1, 3, 1, 0)]

    assert await names(api, id=[*map(str, chosen), "018f3c5a-7b1e-7cc2-9a51-0242ac120002"]) == ["User1", "User0"]


async def test_the_link_leads_through_all_pages_with_the_same_filters(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    await read_side.register(*(person(number) for number in range(7)), person(8, status="deactivated"))
    seen: list[str] = []
    answer = await api.get("/users?limit=3&status=active&sort=created_at")
    while True:
        page = answer.json()
        seen += [user["username"] for user in page["data"]]
        assert page["has_more"] == ("next" in answer.links) == (page["next_cursor"] is not None)
        if not page["has_more"]:
            break
        answer = await api.get(answer.links["next"]["url"])

    assert seen == [f"User{number}" for number in range(7)]


async def test_a_full_last_page_has_no_next(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    await read_side.register(person(0), person(1))

    page = (await api.get("/users?limit=2")).json()

    assert (len(page["data"]), page["has_more"], page["next_cursor"]) == (2, False, None)


async def test_skip_leaves_out_from_the_start_and_a_cursor_goes_on(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    await read_side.register(*(person(number) for number in range(6)))

    page = (await api.get("/users?skip=2&limit=2")).json()
    following = (await api.get("/users", params={"cursor": page["next_cursor"], "limit": 2})).json()

    assert [user["username"] for user in page["data"]] == ["User3", "User2"]
    assert [user["username"] for user in following["data"]] == ["User1", "User0"]
    assert await names(api, skip=10_000) == []


async def test_a_larger_limit_is_served_as_200(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    await read_side.register(*(person(number) for number in range(201)))

    answer = await api.get("/users?limit=1000000000000000000000")

    assert len(answer.json()["data"]) == 200
    assert "limit=200" in answer.links["next"]["url"]
    assert len((await api.get("/users")).json()["data"]) == 50


async def test_a_cursor_may_come_with_what_it_was_made_for_or_without(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    people = [person(number) for number in range(4)]
    await read_side.register(*people)
    asked: dict[str, Any] = {
        "sort": "username",
        "status": "active",
        "username_prefix": "u",
        "created_after": "2026-01-01T00:00:00Z",
        "id": [str(user.id) for user in people],
        "limit": 2,
    }
    cursor = (await api.get("/users", params=asked)).json()["next_cursor"]

    assert await names(api, cursor=cursor) == ["User2", "User3"]
    assert await names(api, **{**asked, "id": asked["id"][::-1], "cursor": cursor}) == ["User2", "User3"]


@pytest.mark.parametrize(
    "other",
    [
        {"sort": "-username"},
        {"status": "deactivated"},
        {"username_prefix": "us"},
        {"email": "user1@example.com"},
        {"created_after": "2026-01-01T00:00:00.000001Z"},
    ],
)
async def test_a_cursor_of_another_list_is_refused(
    api: httpx.AsyncClient, read_side: ReadSide, other: dict[str, str]
) -> None:
    await read_side.register(person(0), person(1))
    asked = {"sort": "username", "username_prefix": "u", "created_after": "2026-01-01T00:00:00Z", "limit": "1"}
    cursor = (await api.get("/users", params=asked)).json()["next_cursor"]

    answer = await api.get("/users", params={"cursor": cursor, **other})

    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/invalid-cursor")


async def test_a_cursor_of_other_keys_or_another_address_is_refused(
    api: httpx.AsyncClient, read_side: ReadSide, query_database: PostgresAddress
) -> None:
    ann = person(0)
    await read_side.register(ann, person(1))
    await read_side.apply(moved(ann, "new@example.com"))
    of_users = (await api.get("/users?limit=1")).json()["next_cursor"]
    of_timeline = (await api.get(f"/users/{ann.id}/timeline?limit=1")).json()["next_cursor"]
    other_keys = make_settings(query_database, CURSOR_KEYS="k1:" + "A" * 43)

    async with serving(create_app(other_keys)) as other:
        foreign = (await other.get("/users?limit=1")).json()["next_cursor"]

    for path, cursor in (
        ("/users", foreign),
        ("/users", of_timeline),
        ("/users", of_users[:-1] + ("A" if of_users[-1] != "A" else "B")),
        ("/users", ""),
        (f"/users/{ann.id}/timeline", of_users),
    ):
        answer = await api.get(path, params={"cursor": cursor})
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/invalid-cursor"), (path, cursor)


async def test_keys_rotate_without_breaking_a_walk(read_side: ReadSide, query_database: PostgresAddress) -> None:
    await read_side.register(person(0), person(1))
    rotated = make_settings(query_database, CURSOR_KEYS=f"k2:{'A' * 43},k1:{'B' * 42}A")
    before = make_settings(query_database, CURSOR_KEYS=f"k1:{'B' * 42}A")

    async with serving(create_app(before)) as api:
        cursor = (await api.get("/users?limit=1")).json()["next_cursor"]
    async with serving(create_app(rotated)) as api:
        assert await names(api, cursor=cursor) == ["User0"]


async def test_the_count_comes_only_when_asked_for(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    await read_side.register(*(person(number) for number in range(5)), person(6, status="deactivated"))

    plain = await api.get("/users?limit=2&status=active")
    counted = await api.get("/users?limit=2&status=active", headers={"Prefer": "count=exact"})

    assert "x-total-count" not in plain.headers
    assert counted.headers["x-total-count"] == "5"
    assert counted.headers["preference-applied"] == "count=exact"
    assert [user["id"] for user in counted.json()["data"]] == [user["id"] for user in plain.json()["data"]]


async def test_a_count_past_its_limit_says_so_and_the_page_still_comes(
    read_side: ReadSide, query_database: PostgresAddress
) -> None:
    await read_side.connection.execute(
        "INSERT INTO users_g1 SELECT gen_random_uuid(), 1, 'active', n::text, n::text, now(), now(), '{}'"
        " FROM generate_series(1, 30000) n"
    )
    async with serving(create_app(make_settings(query_database, QUERY_COUNT_MS=1))) as api:
        refused = await api.get("/users?limit=1&created_after=2026-01-01T00:00:00Z", headers={"Prefer": "count=exact"})
        page = await api.get("/users?limit=1&created_after=2026-01-01T00:00:00Z")

    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/count-too-expensive")
    assert refused.headers["retry-after"] == "1"
    assert page.status_code == 200


INJECTIONS = (
    "' OR 1=1 --",
    '"; DROP TABLE users_g1; --',
    "$1",
    "{0}",
    "%s",
    "\\",
    "';SELECT pg_sleep(9)--",
    "\u202e\U0001f388",
    "*",
)


async def test_injections_are_values_and_nothing_else(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    await read_side.register(person(0), *(person(number, username=text) for number, text in enumerate(INJECTIONS, 1)))

    for text in INJECTIONS:
        assert await names(api, username=text) == [text]
        assert await names(api, username_prefix=text) == [text]
        for query in (each for each in QUERIES if each.method == "GET"):
            path = query.path.replace("{id}", str(person().id))
            for name in (*query.parameters.by_name, text):
                answer = await api.get(f"{path}?{quote(name)}={quote(text)}")
                assert answer.status_code in (200, 400, 422), (path, name, answer.text)
            for header in ("Consistency-Token", "Prefer", "If-None-Match", "Accept", "X-Request-Id"):
                answer = await api.get(path, headers={header: quote(text, safe=" ';-\"")})
                assert answer.status_code in (200, 400, 404, 406), (path, header, answer.text)
        for path in (f"/users/{quote(text, safe='')}", f"/users/{quote(text, safe='')}/timeline"):
            assert (await api.get(path)).status_code in (404, 422)
    assert set(await names(api)) == {"User0", *INJECTIONS}


async def test_answers_are_json_for_the_odd_document(api: httpx.AsyncClient, app: FastAPI, read_side: ReadSide) -> None:
    people = [person(number, attributes={"n": number, "text": "]}," * number}) for number in range(3)]
    await read_side.register(*people)

    body = (await api.get("/users?sort=created_at")).content

    assert json.loads(body)["data"] == [user.model_dump(mode="json") for user in people]


async def test_as_of_is_the_least_of_what_the_partitions_have_seen(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    assert (await api.get("/users")).headers["as-of"] == "1970-01-01T00:00:00.000000Z"
    await read_side.see(START + timedelta(hours=1))
    await read_side.connection.execute("UPDATE checkpoints SET seen_until = $1 WHERE partition = 1", START)

    async def shown() -> bool:
        return (await api.get("/users")).headers["as-of"] == rfc3339(START)

    await until(shown, within=5, what="As-Of follows the checkpoints")
    for path in (f"/users/{person().id}", "/users?nope=1", f"/users/{person().id}/timeline", "/stats/signups"):
        assert (await api.get(path)).headers["as-of"] == rfc3339(START), path
