"""Of several relays by one name the figures are those of the one that leads."""

import asyncio
import socket
from typing import Any

import httpx
import pytest

from outbox.figures import MOST_PROCESSES, ask_relay, urls_of
from outbox.settings import RelayAddress

NAMES = ("published_total", "producer_recreated_total", "below_floor_total")
SETTINGS = RelayAddress(_env_file=None, RELAY_HTTP_HOST="relay")


def relays(**leads: bool) -> httpx.AsyncClient:
    """What answers at these addresses: relays, each of which leads or not."""

    def answer(request: httpx.Request) -> httpx.Response:
        address = f"at_{request.url.host.replace('.', '_').replace(':', '_')}"
        if address not in leads:
            raise httpx.ConnectError("nobody is there", request=request)
        lines = [f"muster_outbox_{name} 7" for name in NAMES]
        return httpx.Response(200, text="\n".join([*lines, f"muster_outbox_leader {leads[address]:d}", ""]))

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that the name leads to, to be filled."""
    addresses: list[str] = []

    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        if not addresses:
            raise socket.gaierror("no such name")
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [(kind, socket.SOCK_STREAM, 6, "", (each, 8002)) for kind, each in zip(families, addresses, strict=True)]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", lambda _, *given, **named: getaddrinfo(*given, **named))
    return addresses


@pytest.mark.parametrize("order", [["10.0.0.1", "10.0.0.2"], ["10.0.0.2", "10.0.0.1"]])
async def test_the_one_that_leads_is_shown_whichever_comes_first(resolved: list[str], order: list[str]) -> None:
    resolved.extend(order)
    async with relays(at_10_0_0_1=False, at_10_0_0_2=True) as http:
        figures = await ask_relay(SETTINGS, http)

    assert (figures.url, figures.leads, figures.published) == ("http://10.0.0.2:8002", True, 7)


async def test_where_none_leads_one_that_answers_is_shown(resolved: list[str]) -> None:
    resolved.extend(["fd00::1", "fd00::2"])
    async with relays(at_fd00__2=False) as http:
        figures = await ask_relay(SETTINGS, http)

    assert (figures.url, figures.error, figures.leads) == ("http://[fd00::2]:8002", None, False)


@pytest.mark.parametrize("addresses", [[], ["10.0.0.1"]])
async def test_a_name_without_several_addresses_is_asked_as_it_is(resolved: list[str], addresses: list[str]) -> None:
    resolved.extend(addresses)
    async with relays() as http:
        figures = await ask_relay(SETTINGS, http)

    assert (figures.url, figures.error) == ("http://relay:8002", "nobody is there")


@pytest.mark.parametrize(
    ("addresses", "urls"),
    [
        (["::1", "127.0.0.1"], ["http://relay:8002"]),
        (["fd00::1", "10.0.0.2", "10.0.0.1"], ["http://10.0.0.1:8002", "http://10.0.0.2:8002"]),
    ],
    ids=["one of both families", "two, one of which has both"],
)
async def test_one_machine_with_addresses_of_both_families_is_one(
    resolved: list[str], addresses: list[str], urls: list[str]
) -> None:
    resolved.extend(addresses)

    assert await urls_of("relay", 8002) == urls


async def test_of_too_many_always_the_same_are_asked(resolved: list[str]) -> None:
    resolved.extend(f"10.0.{number % 3}.{number}" for number in range(200))
    found = await urls_of("relay", 8002)
    resolved.reverse()

    assert len(found) == MOST_PROCESSES
    assert await urls_of("relay", 8002) == found
