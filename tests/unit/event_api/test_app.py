"""The event API takes on no more than it can do, before it asks anything of Kafka."""

import httpx
import pytest

from chassis.http.overload import admission
from event_api.app import create_app
from event_api.settings import EventApiSettings
from local_stack.secret_values import make_secret


def make_settings() -> EventApiSettings:
    return EventApiSettings(
        _env_file=None,
        AUTH_DISABLED=True,
        EVENT_API_SECRETS="a-secret-of-32-characters-or-more",
        KAFKA_BOOTSTRAP_SERVERS="localhost:1",
        POSTGRES_SERVER="localhost",
        POSTGRES_USER="muster_events",
        POSTGRES_PASSWORD="secret",
        QUERY_POSTGRES_DB="muster_query",
        RECEIPTS_KEY=make_secret("RECEIPTS_KEY"),
    )


async def test_who_asks_for_events_waits_for_a_turn_and_who_asks_for_health_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "LONGEST_SECONDS", 0.02)
    app = create_app(make_settings())
    for _ in range(admission.AT_ONCE):
        await app.state.admission.take()

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        health = await client.get("/health")
        late = await client.get("/events")

    assert health.status_code == 200
    assert (late.status_code, late.json()["type"]) == (503, "/problems/busy")
    assert "/problems/busy" in app.openapi()["paths"]["/events"]["get"]["responses"]["503"]["description"]
