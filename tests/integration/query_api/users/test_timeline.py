from datetime import UTC, datetime, timedelta

import httpx

from events.times import rfc3339
from events.user_events import PublicUser, UserDeactivated, UserRegistered, UserSnapshot
from tests.integration.query_api.read_side import START, ReadSide, erased, moved, person, token


async def test_entries_come_newest_first_with_what_changed_and_why(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    ann = person(email="old@example.com")
    changed = moved(ann, "new@example.com")
    gone = changed.user.model_copy(update={"version": 3, "is_active": False, "status": "deactivated"})
    await read_side.apply(UserRegistered(user=ann))
    await read_side.apply(changed, now=START + timedelta(hours=1))
    await read_side.apply(
        UserDeactivated(user=gone, previous={"is_active": True, "status": "active"}, reason="asked to")
    )

    answer = await api.get(f"/users/{ann.id}/timeline")
    page = answer.json()

    assert [(entry["type"], entry["version"], entry["reason"]) for entry in page["data"]] == [
        ("deactivated", 3, "asked to"),
        ("email_changed", 2, None),
        ("registered", 1, None),
    ]
    assert page["data"][1]["changes"] == {"email": {"from": "old@example.com", "to": "new@example.com"}}
    assert page["data"][1]["time"] == rfc3339(START + timedelta(hours=1))
    assert (page["has_more"], page["next_cursor"]) == (False, None)
    assert answer.headers["consistency-token"] == token(ann.id, 3)
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


async def test_who_was_imported_deactivated_has_one_entry_that_happens_at_the_import(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    """They are found by when they came to be elsewhere, and count among the sign-ups of that day."""
    ann = person(status="deactivated", created_at=datetime(2026, 1, 2, 3, tzinfo=UTC), updated_at=START)
    await read_side.register(person(1), person(2))
    await read_side.apply(UserRegistered(user=ann, reason="left"))

    [entry] = (await api.get(f"/users/{ann.id}/timeline")).json()["data"]
    oldest = (await api.get("/users", params={"sort": "created_at", "limit": 1})).json()["data"]
    days = (await api.get("/stats/signups", params={"from": "2026-01-02", "to": "2026-01-02"})).json()["data"]

    assert (entry["type"], entry["reason"], entry["time"]) == ("registered", "left", rfc3339(START))
    assert [user["id"] for user in oldest] == [str(ann.id)]
    assert days == [{"day": "2026-01-02", "active": 0, "deactivated": 1}]


async def test_an_entry_says_who_made_the_change_and_how_it_came_here(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    ann = person()
    before = await read_side.connection.fetchval("SELECT now()")
    await read_side.apply(UserRegistered(user=ann), actor="support%2F7", on_behalf_of="shop")
    await read_side.apply(moved(ann, "new@example.com"), actor="self")
    # As an entry that was carried over from tables that did not keep the rest.
    await read_side.connection.execute(
        "INSERT INTO timeline_g1 (user_id, version, document) VALUES ($1, 3, $2)", ann.id, b'{"version":3}'
    )

    carried, own, helped = (await api.get(f"/users/{ann.id}/timeline")).json()["data"]

    applied_at = helped.pop("applied_at")
    assert rfc3339(before) <= applied_at <= rfc3339(await read_side.connection.fetchval("SELECT now()"))
    assert {name: helped[name] for name in list(helped)[6:]} == {
        "actor": "support%2F7",
        "on_behalf_of": "shop",
        "partition": 0,
        "offset": 0,
        "committed_at": rfc3339(START),
        "published_at": "2026-11-01T12:00:00.000000Z",
    }
    assert (own["actor"], own["on_behalf_of"]) == ("self", None)
    assert carried.pop("version") == 3
    assert set(carried) == {*list(helped)[6:], "applied_at"}
    assert not any(carried.values())


async def test_pages_go_on_where_the_last_ended_also_while_more_happens(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    ann = person()
    await read_side.register(ann)
    current = ann
    for number in range(6):
        event = moved(current, f"{number}@example.com")
        await read_side.apply(event)
        current = event.user

    first = await api.get(f"/users/{ann.id}/timeline?limit=3")
    await read_side.apply(moved(current, "later@example.com"))
    second = await api.get(first.links["next"]["url"])
    third = await api.get(second.links["next"]["url"])

    seen = [entry["version"] for answer in (first, second, third) for entry in answer.json()["data"]]
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    assert "next" not in third.links


async def test_a_cursor_of_another_users_timeline_is_refused(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    ann, bob = person(1), person(2)
    await read_side.register(ann, bob)
    await read_side.apply(moved(ann, "a@example.com"))
    cursor = (await api.get(f"/users/{ann.id}/timeline?limit=1")).json()["next_cursor"]

    answer = await api.get(f"/users/{bob.id}/timeline", params={"cursor": cursor})

    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/invalid-cursor")


async def test_who_never_was_and_who_was_erased_have_none(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    ann = person()
    await read_side.register(ann)
    await read_side.apply(erased(ann))

    for identifier in (ann.id, person().id):
        assert (await api.get(f"/users/{identifier}/timeline")).status_code == 404


async def test_takes_limit_and_cursor_and_nothing_else(api: httpx.AsyncClient) -> None:
    for query in ("skip=1", "sort=version", "limit=0"):
        assert (await api.get(f"/users/{person().id}/timeline?{query}")).status_code == 422
    assert (await api.get("/users/ann/timeline")).status_code == 422


async def test_what_is_missing_before_a_snapshot_is_one_gap(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    ann = person()
    await read_side.register(ann)
    await read_side.apply(_snapshot(ann, 4))
    lost = await _timeline(api, ann)
    await read_side.apply(moved(_snapshot(ann, 4).user, "new@example.com"))
    moved_on = await _timeline(api, ann)

    assert lost == [_gap(2, 4), 1]
    assert moved_on == [5, _gap(2, 4), 1]


async def test_a_snapshot_of_a_version_that_is_known_changes_nothing(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    ann = person()
    await read_side.register(ann)
    await read_side.apply(moved(ann, "new@example.com"))
    before = [(await api.get(path)).content for path in (f"/users/{ann.id}", f"/users/{ann.id}/timeline")]
    await read_side.apply(_snapshot(ann, 2), _snapshot(ann, 1))

    assert [(await api.get(path)).content for path in (f"/users/{ann.id}", f"/users/{ann.id}/timeline")] == before


async def test_who_is_known_by_a_snapshot_alone_has_a_state_and_a_gap_on_one_page(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    ann = person()
    await read_side.apply(_snapshot(ann, 3))
    first = await api.get(f"/users/{ann.id}/timeline?limit=1")

    assert (await api.get(f"/users/{ann.id}")).json()["version"] == 3
    assert (first.json()["data"], first.json()["has_more"]) == ([_gap(1, 3)], False)
    assert first.headers["consistency-token"] == token(ann.id, 3)


async def test_a_gap_takes_a_place_of_its_own_on_a_page(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    ann = person()
    await read_side.register(ann)
    await read_side.apply(moved(_snapshot(ann, 4).user, "new@example.com"))
    pages, url = [], f"/users/{ann.id}/timeline?limit=1"
    while url:
        answer = await api.get(url)
        pages.append(answer.json()["data"])
        url = answer.links.get("next", {}).get("url", "")

    assert [[one.get("version", one) for one in page] for page in pages] == [[5], [_gap(2, 4)], [1]]


async def test_an_erased_user_is_not_brought_back_by_an_older_snapshot(
    api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    ann = person()
    await read_side.register(ann)
    await read_side.apply(erased(ann))
    await read_side.apply(_snapshot(ann, 1))

    for path in (f"/users/{ann.id}", f"/users/{ann.id}/timeline"):
        assert (await api.get(path)).status_code == 404


def _snapshot(user: PublicUser, version: int) -> UserSnapshot:
    return UserSnapshot(user=user.model_copy(update={"version": version}))


def _gap(first: int, last: int) -> dict[str, object]:
    return {"event": "gap", "from_version": first, "to_version": last}


async def _timeline(api: httpx.AsyncClient, user: PublicUser) -> list[object]:
    """Versions of entries, and gaps."""
    return [one.get("version", one) for one in (await api.get(f"/users/{user.id}/timeline")).json()["data"]]
