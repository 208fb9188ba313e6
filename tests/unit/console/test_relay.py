"""Of several relays by one name the console tells of the one that leads, as `muster lag` does."""

import asyncio
import socket
from typing import Any

import httpx
import pytest

from console.asking import Failed
from console.overview.observation import PUBLISHED, look_at_relay
from outbox.settings import RelayAddress

STANDBY, LEADER = "10.0.0.1", "10.0.0.2"


def answer(request: httpx.Request) -> httpx.Response:
    leads = request.url.host == LEADER
    if request.url.path == "/readyz":
        return httpx.Response(200 if leads else 503, json={"checks": {"kafka": "ok" if leads else "away"}})
    counts = {PUBLISHED: 7 if leads else 0, "muster_outbox_producer_recreated_total": 0}
    values = counts | {"muster_outbox_below_floor_total": 0, "muster_outbox_leader": int(leads)}
    lines = [f"# TYPE {name.removesuffix('_total')} gauge\n{name} {value}" for name, value in values.items()]
    return httpx.Response(200, text="\n".join([*lines, ""]))


@pytest.mark.parametrize("order", [[STANDBY, LEADER], [LEADER, STANDBY]])
async def test_it_is_the_one_that_leads(monkeypatch: pytest.MonkeyPatch, order: list[str]) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 8002)) for address in order]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", lambda _, *given, **named: getaddrinfo(*given, **named))
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        unready, figures = await look_at_relay(RelayAddress(_env_file=None, RELAY_HTTP_HOST="relay"), http)

    assert not isinstance(figures, Failed)
    assert {url: each.counts[PUBLISHED] for url, each in figures.items()} == {f"http://{LEADER}:8002": 7}
    assert unready == ""
