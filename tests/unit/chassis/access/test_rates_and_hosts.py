"""Rate limits count each caller by itself; hosts and origins are what they say."""

from typing import Any

import pytest

from chassis.access import rates
from chassis.access.hosts import Hosts, OwnPages
from chassis.access.problems import FORBIDDEN
from chassis.access.rates import Rate, RateLimit
from chassis.access.rules import AccessTable, Rule
from chassis.http.access_document import declare_access
from chassis.http.problems import Problem


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def limit(text: str, clock: Clock) -> RateLimit:
    rate = Rate.parse(text)
    assert rate is not None
    return RateLimit("reads", rate, now=clock)


def taken(limited: RateLimit, caller: str, most: int) -> int:
    """How many of the caller's requests go through before one is refused."""
    for number in range(most):
        try:
            limited.take(caller)
        except Problem:
            return number
    return most


def test_a_burst_of_the_limit_goes_through_and_then_one_an_interval() -> None:
    clock = Clock()
    limited = limit("10/min", clock)

    assert taken(limited, "ann", 20) == 10
    assert taken(limited, "bob", 20) == 10
    clock.now += 6
    assert taken(limited, "ann", 20) == 1
    clock.now += 600
    assert taken(limited, "ann", 20) == 10


def test_a_steady_caller_within_the_limit_is_never_refused() -> None:
    clock = Clock()
    limited = limit("50/s", clock)
    for _ in range(1000):
        limited.take("ann")
        clock.now += 0.02


def test_the_refusal_says_when_to_come_back_and_what_the_limit_is() -> None:
    clock = Clock()
    limited = limit("10/min", clock)
    taken(limited, "ann", 10)
    with pytest.raises(Problem) as refused:
        limited.take("ann")

    assert refused.value.type.slug == "too-many-requests"
    assert dict(refused.value.headers) == {
        "Retry-After": "6",
        "RateLimit-Policy": '"reads";q=10;w=60',
        "RateLimit": '"reads";r=0;t=6',
    }
    clock.now += 6
    limited.take("ann")


def test_many_callers_never_block_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST_CALLERS", 100)
    clock = Clock()
    limited = limit("2/s", clock)
    for number in range(1000):
        assert taken(limited, f"caller {number}", 5) == 2


@pytest.mark.parametrize("text", ["10", "0/s", "10/h", "ten/s", "10 / s", "-1/s", "", "Off", "10/s "])
def test_a_rate_has_one_form(text: str) -> None:
    with pytest.raises(ValueError, match="10/min, or off"):
        Rate.parse(text)


def test_off_is_no_limit() -> None:
    assert Rate.parse("off") is None
    assert Rate.parse("3/min") == Rate(3, 60)


async def answered(app: Any, **scope: Any) -> bool:
    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in scope.pop("headers", {}).items()]
    try:
        await app(
            {"type": "http", "method": "GET", "path": "/", "scheme": "http", **scope, "headers": headers}, None, None
        )
    except Problem:
        return False
    return True


async def nothing(*_: Any) -> None:
    """An app that is happy with everything."""


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "127.8.9.1", "localhost", "LOCALHOST:8001", "[::1]:8000", "muster.localhost:8000"]
)
async def test_loopback_names_are_answered_with_access_off(host: str) -> None:
    assert await answered(Hosts(nothing, loopback_only=True), headers={"host": host})


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "10.0.0.1:8000", "", "[::1", "0.0.0.0"])
async def test_other_names_are_refused_with_access_off(host: str) -> None:
    assert not await answered(Hosts(nothing, loopback_only=True), headers={"host": host})


async def test_allowed_hosts_are_names_and_what_is_below_them() -> None:
    hosts = Hosts(nothing, allowed=["users.example.com", "*.shop.example.com"])

    for host in ("users.example.com", "USERS.example.com:443", "a.b.shop.example.com"):
        assert await answered(hosts, headers={"host": host})
    for host in ("shop.example.com", "evilshop.example.com", "users.example.com.evil.example", "127.0.0.1", ""):
        assert not await answered(hosts, headers={"host": host})
    assert await answered(Hosts(nothing), headers={"host": "anything"})


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, True),
        ({"origin": "http://127.0.0.1:8000"}, True),
        ({"origin": "https://app.example.com"}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "https://127.0.0.1:8000"}, False),
        ({"origin": "null"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
    ],
)
async def test_commands_come_from_own_pages_or_from_no_page(headers: dict[str, str], expected: bool) -> None:
    app = OwnPages(nothing, origins=["https://app.example.com"])
    given = {"host": "127.0.0.1:8000", **headers}

    assert await answered(app, method="POST", headers=given) is expected
    assert await answered(app, method="GET", headers=given)


@pytest.mark.parametrize(
    ("server", "expected"),
    [(("127.0.0.1", 8000), True), (("::1", 8000), True), (("/run/x.sock", None), True), (("192.0.2.7", 8000), False)],
)
async def test_with_access_off_only_what_came_to_a_loopback_address_is_answered(
    server: tuple[str, int | None], expected: bool
) -> None:
    """Whatever address another server was told to bind: it is where the connection ends that counts."""
    asked = {"server": server, "headers": {"host": "127.0.0.1:8000"}}

    assert await answered(Hosts(nothing, loopback_only=True), **asked) is expected
    assert await answered(Hosts(nothing, allowed=["127.0.0.1"]), **asked)


def test_every_operation_says_that_it_does_not_answer_to_foreign_names() -> None:
    document: dict[str, Any] = {"paths": {"/things": {"get": {"responses": {}}}}}
    declare_access(document, AccessTable([Rule("GET", "/things", ("things:read",))]))

    assert {"401", "403", "408", "414", "421", "429", "431", "501"} == set(
        document["paths"]["/things"]["get"]["responses"]
    )


def test_the_refusal_of_a_foreign_page_does_not_only_speak_of_tokens() -> None:
    assert "a page that is not the service's own" in FORBIDDEN.meaning
    assert "CORS_ALLOW_ORIGINS" in FORBIDDEN.remedy
