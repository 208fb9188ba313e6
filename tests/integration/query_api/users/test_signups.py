from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI

from events.user_events import UserDeactivated
from query_api.app import create_app
from query_api.settings import QueryApiSettings
from tests.integration.query_api.read_side import ReadSide, erased, person

NOW = datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC)


@pytest.fixture
def app(settings: QueryApiSettings) -> FastAPI:
    return create_app(settings, now=lambda: NOW)


async def test_counts_who_exists_by_day_and_status(api: httpx.AsyncClient, read_side: ReadSide) -> None:
    early, late = datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 20, 23, 59, 59, 999999, UTC)
    people = [person(0, created_at=early), person(1, created_at=late), person(2, created_at=late)]
    await read_side.register(*people, person(3, created_at=NOW))
    gone = people[0].model_copy(update={"version": 2, "is_active": False, "status": "deactivated"})
    await read_side.apply(UserDeactivated(user=gone, previous={"is_active": True, "status": "active"}))
    await read_side.apply(erased(people[1]))

    answer = await api.get("/stats/signups?from=2026-11-19&to=2026-11-22")

    assert answer.json() == {
        "data": [
            {"day": "2026-11-19", "active": 0, "deactivated": 0},
            {"day": "2026-11-20", "active": 1, "deactivated": 1},
            {"day": "2026-11-21", "active": 0, "deactivated": 0},
            {"day": "2026-11-22", "active": 1, "deactivated": 0},
        ]
    }
    assert answer.headers["cache-control"] == "no-store"


async def test_the_default_is_the_last_thirty_days(api: httpx.AsyncClient) -> None:
    days = [entry["day"] for entry in (await api.get("/stats/signups")).json()["data"]]

    assert (len(days), days[0], days[-1]) == (30, "2026-10-24", "2026-11-22")


async def test_three_years_are_served_and_a_day_more_is_not(api: httpx.AsyncClient) -> None:
    whole = await api.get("/stats/signups?from=2023-11-22&to=2026-11-22")

    assert len(whole.json()["data"]) == (NOW.date() - (NOW - timedelta(days=1096)).date()).days + 1
    assert (await api.get("/stats/signups?from=2023-11-21&to=2026-11-22")).status_code == 422


@pytest.mark.parametrize("query", ["from=2026-11-23", "to=22.11.2026", "from=2026-02-30", "day=2026-11-22", "from="])
async def test_refuses_days_that_make_no_period(api: httpx.AsyncClient, query: str) -> None:
    assert (await api.get(f"/stats/signups?{query}")).status_code == 422
