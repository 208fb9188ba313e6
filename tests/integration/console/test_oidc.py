"""Signing in by an identity provider: who gets in and who does not, and tokens that are renewed ahead of their end."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx
import pytest
from structlog.testing import capture_logs

from chassis.clock import utc_now
from chassis.postgres.database import connect, disconnect
from chassis.settings import PostgresAddress
from console.events import tail
from console.overview import page as overview
from console.sign_in import renewal
from console.sign_in.sealing import digest
from console.sign_in.sessions import Session
from tests.integration.console.conftest import Browser, Console, make_settings, serving
from tests.servers.oidc_provider import AUDIENCE, CLIENT, SECRET, OidcProvider, start_provider
from tests.waiting import until

CONSOLE = "http://localhost"
CALLBACK = f"{CONSOLE}/sign-in/callback"
EVERYTHING = "openid operations:read users:read"


def oidc(provider: OidcProvider, **more: Any) -> dict[str, Any]:
    """The settings with which the console trusts it."""
    return {
        "AUTH_ISSUER": provider.issuer,
        "AUTH_AUDIENCE": AUDIENCE,
        "AUTH_JWKS_FILE": None,
        "PUBLIC_CONSOLE_URL": CONSOLE,
        "CONSOLE_OIDC_ISSUER": provider.issuer,
        "CONSOLE_OIDC_CLIENT_ID": CLIENT,
        "CONSOLE_OIDC_CLIENT_SECRET": SECRET,
        "CONSOLE_OIDC_SCOPES": EVERYTHING,
        **more,
    }


@pytest.fixture
async def provider() -> AsyncIterator[OidcProvider]:
    provider = await start_provider(CALLBACK, SECRET)
    yield provider
    await provider.end()


@pytest.fixture
async def office(
    provider: OidcProvider, command_database: PostgresAddress, query_database: PostgresAddress
) -> AsyncIterator[Console]:
    """A console that the provider signs people in to."""
    async with serving(make_settings(command_database, query_database, **oidc(provider)), query_database) as console:
        yield console


@pytest.fixture
async def table(query_database: PostgresAddress) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await connect(query_database, application="test")
    yield connection
    await disconnect(connection)


async def begin(browser: Browser) -> str:
    """Press the button; gives the address at the provider."""
    offered = re.search(r'class="button" href="([^"]+)"', (await browser.get("/sign-in")).text)
    assert offered is not None
    led = await browser.http.get(offered[1])
    assert led.status_code == 303, led.text
    return led.headers["location"]


async def decide(address: str, **form: str) -> str:
    """Sign in at the provider; gives the path and query that it leads back to."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        shown = await http.get(address)
        assert shown.status_code == 200, shown.text
        led = await http.post(address, data={"subject": "olga", "decision": "allow", "scopes": EVERYTHING, **form})
    assert led.status_code == 302, led.text
    back = led.headers["location"]
    assert back.startswith(f"{CALLBACK}?")
    return back.removeprefix(CONSOLE)


async def come_back(browser: Browser, **form: str) -> httpx.Response:
    """Begin, sign in there, and come back."""
    return await browser.http.get(await decide(await begin(browser), **form))


@asynccontextmanager
async def signed_in(console: Console, **form: str) -> AsyncIterator[Browser]:
    async with console.browser() as browser:
        answer = await come_back(browser, **form)
        assert answer.status_code == 303, answer.text
        yield browser


async def test_the_provider_signs_in_and_its_scopes_say_what_is_shown(
    office: Console, table: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with office.browser() as browser:
        address = await begin(browser)
        back = await decide(address, scopes="operations:read")
        entered = await browser.http.get(back)
        inside, users = await browser.get("/operations"), await browser.http.get("/users")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    [row] = await table.fetch("SELECT * FROM console_sessions")

    assert (asked["response_type"], asked["client_id"], asked["redirect_uri"]) == ("code", CLIENT, CALLBACK)
    assert asked["code_challenge_method"] == "S256"
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) == 43
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert "<bdi>olga</bdi>" in inside.text
    assert users.status_code == 403
    assert b"eyJ" not in row["sealed"], "a token begins so"


async def test_a_public_client_signs_in_by_its_verifier_alone(
    command_database: PostgresAddress, query_database: PostgresAddress
) -> None:
    provider = await start_provider(CALLBACK, None)
    try:
        settings = make_settings(command_database, query_database, **oidc(provider, CONSOLE_OIDC_CLIENT_SECRET=None))
        async with serving(settings, query_database) as console, signed_in(console) as browser:
            inside = await browser.http.get("/operations")
    finally:
        await provider.end()

    assert inside.status_code == 200


async def test_what_keeps_a_sign_in_is_for_this_browser_alone_and_short(office: Console) -> None:
    async with office.browser() as browser:
        led = await browser.http.get("/sign-in/provider")
    cookie = led.headers["set-cookie"].lower()

    assert {"httponly", "samesite=lax", "path=/", "max-age=600"} <= {part.strip() for part in cookie.split(";")}
    assert parse_qs(urlsplit(led.headers["location"]).query)["nonce"][0] not in cookie


async def test_an_answer_that_this_browser_did_not_ask_for_signs_nobody_in(office: Console) -> None:
    async with office.browser() as ours, office.browser() as theirs:
        back = await decide(await begin(theirs), subject="eve")
        without_any = await ours.http.get(back)
        await begin(ours)
        with_another = await ours.http.get(back)
        state = re.sub(r"state=[^&]+", "state=x", back)
        wrong = [
            await theirs.http.get(path) for path in (state, "/sign-in/callback", "/sign-in/callback?code=x&state=")
        ]
        theirs_still = await theirs.http.get(back)

    for answer in (without_any, with_another, *wrong):
        assert answer.status_code == 400
        assert "begin anew" in answer.text
        assert "muster_console=" not in answer.headers.get("set-cookie", "")
    assert theirs_still.status_code == 303


async def test_an_answer_works_once_even_with_another_code(office: Console) -> None:
    async with office.browser() as browser:
        address = await begin(browser)
        kept = dict(browser.http.cookies)
        first = await browser.http.get(await decide(address))
        gone = await browser.http.get(await decide(address))
        browser.http.cookies.update(kept)
        again = await browser.http.get(await decide(address))

    assert first.status_code == 303
    assert (gone.status_code, again.status_code) == (400, 400)
    assert "works once" in again.text


async def test_an_answer_that_comes_after_ten_minutes_is_too_late(
    office: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with office.browser() as browser:
        back = await decide(await begin(browser))
        monkeypatch.setattr("console.sign_in.oidc.utc_now", lambda: utc_now() + timedelta(minutes=10, seconds=1))
        late = await browser.http.get(back)

    assert late.status_code == 400
    assert "ten minutes" in late.text


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("issuer", "another issuer"),
        ("client", "another audience"),
        ("several", "azp"),
        ("expired", "expired"),
        ("nonce", "nonce"),
        ("signature", "not signed"),
        ("audience", "does not open Muster"),
        ("opaque", "does not open Muster"),
    ],
)
async def test_tokens_that_are_not_right_sign_nobody_in(office: Console, fault: str, reason: str) -> None:
    async with office.browser() as browser:
        answer = await come_back(browser, fault=fault)
        after = await browser.http.get("/operations")

    assert answer.status_code == 401
    assert reason in answer.text
    assert after.headers["location"] == "/sign-in"


async def test_what_the_provider_refuses_is_told_in_its_words_which_are_no_markup(office: Console) -> None:
    async with office.browser() as browser:
        denied = await come_back(browser, decision="deny")
        state = parse_qs(urlsplit(await begin(browser)).query)["state"][0]
        params = {"state": state, "error": "<script>", "error_description": '"><img src=x onerror=alert(1)>'}
        naughty = await browser.http.get("/sign-in/callback", params=params)
        used = await browser.http.get("/sign-in/callback", params={"state": state, "code": "never given"})
        mixed = await browser.http.get("/sign-in/callback", params={"state": state, "code": "x", "iss": "https://evil"})

    assert (denied.status_code, naughty.status_code) == (403, 401)
    assert "access_denied" in denied.text
    assert "<script>" not in naughty.text
    assert "<img" not in naughty.text
    assert (used.status_code, "invalid_grant" in used.text) == (401, True)
    assert (mixed.status_code, "Another issuer" in mixed.text) == (400, True)


async def test_nobody_is_led_elsewhere_than_to_our_first_page(office: Console) -> None:
    async with office.browser() as browser:
        back = await decide(await begin(browser))
        answer = await browser.http.get(f"{back}&next=https://evil.example&redirect_uri=https://evil.example")

    assert answer.headers["location"] == "/"


async def test_signing_out_ends_the_session_and_shows_the_way_out_of_the_provider(
    office: Console, provider: OidcProvider, table: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with signed_in(office) as browser:
        out = await browser.send("/sign-out")
        left = await table.fetchval("SELECT count(*) FROM console_sessions")
    way = re.search(r'href="([^"]+/logout\?[^"]+)"', out.text)

    assert left == 0
    assert way is not None
    assert way[1].startswith(f"{provider.issuer}/logout?client_id={CLIENT}&amp;post_logout_redirect_uri=")
    assert "eyJ" not in way[1], "a token begins so"


async def test_a_token_is_renewed_ahead_of_its_end_once_whoever_asks(
    office: Console, provider: OidcProvider, table: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with signed_in(office) as browser:
        [session] = office.app.state.sessions._seen.values()
        first = session.token
        before = await provider.refreshes()
        for _ in range(2):
            session.renew_at = utc_now()
            answers = await asyncio.gather(*(browser.http.get("/operations") for _ in range(10)))
            assert {answer.status_code for answer in answers} == {200}
        after = await provider.refreshes()
        renewed = session.token
        office.app.state.sessions._seen.clear()
        reopened = await browser.http.get("/operations")

    assert (before, after) == (0, 2)
    assert renewed != first
    assert reopened.status_code == 200
    [known] = office.app.state.sessions._seen.values()
    assert known.token == renewed
    assert known.renew_at > utc_now()


async def test_of_two_processes_one_renews_and_the_other_takes_what_it_got(
    office: Console,
    provider: OidcProvider,
    command_database: PostgresAddress,
    query_database: PostgresAddress,
) -> None:
    settings = make_settings(command_database, query_database, **oidc(provider))
    async with (
        signed_in(office) as browser,
        serving(settings, query_database) as other,
        other.browser() as same,
    ):
        same.http.cookies.update(dict(browser.http.cookies))
        assert (await same.http.get("/operations")).status_code == 200
        for console in (office, other):
            [session] = console.app.state.sessions._seen.values()
            session.renew_at = utc_now()
        both = await asyncio.gather(*(each.http.get("/operations") for each in (browser, same) for _ in range(5)))
        after = [await each.http.get("/operations") for each in (browser, same)]
        tokens = {session.token for each in (office, other) for session in each.app.state.sessions._seen.values()}

    assert {answer.status_code for answer in (*both, *after)} == {200}
    assert await provider.refreshes() == 1
    assert len(tokens) == 1


async def test_a_provider_that_is_away_signs_nobody_out_while_the_token_is_good(
    office: Console, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with signed_in(office) as browser:
        [session] = office.app.state.sessions._seen.values()
        await provider.end()
        session.renew_at = utc_now()
        good = await browser.http.get("/operations")
        monkeypatch.setattr(renewal, "ends_at", lambda _: utc_now() - timedelta(seconds=1))
        monkeypatch.setattr(renewal, "_WAIT_SECONDS", 0.5)
        ended = await browser.http.get("/operations")
        no_way_in = await browser.http.get("/sign-in/provider")

    assert good.status_code == 200
    assert ended.status_code == 503
    assert "identity provider does not answer" in ended.text
    assert no_way_in.status_code in {303, 503}, "its address may be known still"


@pytest.mark.parametrize(("page", "look"), [("overview", "_TELL_SECONDS"), ("events", "SESSION_SECONDS")])
async def test_a_stream_whose_token_ends_while_the_provider_is_away_ends_and_the_outage_is_one_line(
    page: str, look: str, office: Console, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview if page == "overview" else tail, look, 0.1)
    monkeypatch.setattr(renewal, "_WAIT_SECONDS", 0.1)
    async with signed_in(office, scopes=f"{EVERYTHING} events:read") as browser:
        [session] = office.app.state.sessions._seen.values()
        await provider.end()
        with capture_logs() as lines:
            session.renew_at = utc_now()
            while_good = [(await browser.http.get("/operations")).status_code for _ in range(2)]
            looks = _count_looks(office, monkeypatch)
            stream = asyncio.create_task(browser.http.get(f"/live/{page}"))
            await until(_more_than(looks, 2), within=10, what="the stream looks at its session, after the guard")
            monkeypatch.setattr(renewal, "ends_at", lambda _: utc_now() - timedelta(seconds=1))
            ended = await stream
            come_back = await browser.http.get(f"/live/{page}")

    assert while_good == [200, 200]
    assert (ended.status_code, come_back.status_code) == (200, 503)
    assert "event: over\n" not in ended.text, "the browser is to come back"
    assert [line["event"] for line in lines if line["event"].startswith("console.")] == ["console.not_renewed"]
    assert not [line for line in lines if "exc_info" in line]


def _count_looks(office: Console, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of sessions that are asked for, as they are."""
    looks: list[str] = []
    find: Callable[[str], Awaitable[Session | None]] = office.app.state.sessions.find

    async def noting(identifier: str) -> Session | None:
        looks.append(identifier)
        return await find(identifier)

    monkeypatch.setattr(office.app.state.sessions, "find", noting)
    return looks


def _more_than(looks: list[str], count: int) -> Callable[[], Awaitable[bool]]:
    async def enough() -> bool:
        return len(looks) > count

    return enough


async def test_a_refresh_that_is_refused_ends_the_session_with_its_token(
    office: Console, provider: OidcProvider, table: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with signed_in(office) as browser:
        [session] = office.app.state.sessions._seen.values()
        session.refresh, session.renew_at = "never given", utc_now()
        session.sealed = await _reseal(office, session, table)
        while_good = await browser.http.get("/operations")
        again = await browser.http.get("/operations")
        asked = await provider.refreshes()
        office.app.state.sessions._authenticator._now = lambda: utc_now().timestamp() + 7200
        over = await browser.http.get("/operations")

    assert (while_good.status_code, again.status_code) == (200, 200)
    assert asked == 1
    assert over.headers["location"] == "/sign-in"


async def test_a_provider_that_refuses_for_now_ends_no_session(office: Console, provider: OidcProvider) -> None:
    async with signed_in(office, fault="busy") as browser:
        [session] = office.app.state.sessions._seen.values()
        session.renew_at = utc_now()
        answer = await browser.http.get("/operations")

    assert answer.status_code == 200
    assert await provider.refreshes() == 1
    assert session.refresh is not None, "it is tried again later"


async def _reseal(console: Console, session: Any, table: "asyncpg.Connection[asyncpg.Record]") -> bytes:
    from console.sign_in.sealing import seal  # noqa: PLC0415 - for the one test

    sealed = seal(console.app.state.settings.seals, session.id, session.content)
    await table.execute("UPDATE console_sessions SET sealed = $2 WHERE digest = $1", digest(session.id), sealed)
    return sealed


async def test_without_a_provider_there_is_no_way_to_it(console: Console) -> None:
    async with console.browser() as browser:
        page = await browser.http.get("/sign-in")
        answers = [await browser.http.get(f"/sign-in/{path}") for path in ("provider", "callback", "ended")]

    assert 'class="button"' not in page.text
    assert [answer.status_code for answer in answers] == [404] * 3
