"""Who gets in: links that work once, cookies that hold nothing, sessions that end; and forms of this session alone."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import console.app as console_app
import console.sign_in.sessions as sessions_module
from chassis.access.rules import AccessTable, UncoveredRouteError
from chassis.postgres.database import connect, disconnect
from chassis.settings import PostgresAddress
from console.access import ACCESS
from console.app import create_app
from tests.integration.console.conftest import Console, make_settings, serving


@pytest.fixture
async def table(query_database: PostgresAddress) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await connect(query_database, application="test")
    yield connection
    await disconnect(connection)


async def test_a_link_shows_a_button_which_signs_in_once(console: Console) -> None:
    link = await console.link()
    async with console.browser() as first, console.browser() as second:
        looked = [await first.http.get(link) for _ in range(3)]
        spent = await first.sign_in(link)
        again = await second.sign_in(link)
        inside = await first.get("/operations")

    assert [answer.status_code for answer in looked] == [200] * 3
    assert "<button>Sign in</button>" in looked[0].text
    assert spent.status_code == 303
    assert again.status_code == 410
    assert "no longer good" in again.text
    assert inside.status_code == 200


async def test_the_cookie_is_a_random_id_which_neither_scripts_nor_other_sites_get(
    console: Console, table: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with console.browser() as browser:
        answer = await browser.sign_in(await console.link())
    name, _, rest = answer.headers["set-cookie"].partition("=")
    value, *attributes = [part.strip().lower() for part in rest.split(";")]
    [row] = await table.fetch("SELECT * FROM console_sessions")

    assert name == "muster_console"
    assert len(value) >= 43
    assert {"httponly", "samesite=lax", "path=/"} <= set(attributes)
    assert value.encode() not in bytes(row["digest"]) + bytes(row["sealed"])
    assert b"eyJ" not in row["sealed"], "a token begins so"


async def test_over_https_the_cookie_is_bound_to_this_host(
    command_database: PostgresAddress, query_database: PostgresAddress
) -> None:
    settings = make_settings(command_database, query_database, PUBLIC_CONSOLE_URL="https://console.example.com")
    async with serving(settings, query_database) as console, console.browser("https") as browser:
        answer = await browser.sign_in(await console.link())

    assert answer.headers["set-cookie"].startswith("__Host-muster_console=")
    assert "Secure" in answer.headers["set-cookie"]


async def test_signing_out_deletes_the_row_so_that_a_kept_cookie_opens_nothing(
    console: Console, table: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with console.signed_in() as browser:
        kept = dict(browser.http.cookies)
        await browser.send("/sign-out")
        left = await table.fetchval("SELECT count(*) FROM console_sessions")
        browser.http.cookies.update(kept)
        after = await browser.http.get("/operations")

    assert left == 0
    assert (after.status_code, after.headers["location"]) == (303, "/sign-in")


@pytest.mark.parametrize("column", ["expires_at = now() - interval '1 s'", "sealed = 'x'"])
async def test_a_session_whose_time_is_over_or_that_was_tampered_with_is_none(
    console: Console, table: "asyncpg.Connection[asyncpg.Record]", column: str
) -> None:
    async with console.signed_in() as browser:
        await table.execute(f"UPDATE console_sessions SET {column}")
        console.app.state.sessions._seen.clear()
        after = await browser.http.get("/operations")

    assert after.status_code == 303


async def test_a_row_moved_to_another_id_lets_nobody_in(
    console: Console, table: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with console.signed_in("operations:read", subject="clerk") as clerk, console.signed_in():
        await table.execute(
            "UPDATE console_sessions"
            " SET sealed = (SELECT sealed FROM console_sessions ORDER BY expires_at DESC LIMIT 1)"
        )
        console.app.state.sessions._seen.clear()
        after = await clerk.http.get("/operations")

    assert after.status_code == 303


async def test_a_link_whose_token_has_ended_signs_nobody_in(console: Console) -> None:
    link = await console.link(lifetime=timedelta(hours=-1))
    async with console.browser() as browser:
        answer = await browser.sign_in(link)

    assert answer.status_code == 401
    assert "muster_console=" not in answer.headers.get("set-cookie", "")


async def test_nobody_signs_another_browser_in_as_themselves(console: Console) -> None:
    link = await console.link(subject="mallory")
    async with console.browser() as mallory, console.browser() as victim:
        theirs = (await mallory.get(link)).text.split('name="csrf" value="')[1][:64]
        answers = [await victim.http.post(link, data=form) for form in ({}, {"csrf": theirs})]
        await victim.get(link)
        answers.append(await victim.http.post(link, data={"csrf": theirs}))
        inside = await victim.http.get("/operations")
        own = await mallory.sign_in(link)

    assert [answer.status_code for answer in answers] == [403] * 3
    assert "Nobody was signed in" in answers[1].text
    assert inside.status_code == 303
    assert own.status_code == 303, "and the link was not spent"


async def test_two_links_that_stand_open_in_one_browser_both_work(console: Console) -> None:
    links = [await console.link(), await console.link()]
    async with console.browser() as browser:
        first = (await browser.get(links[0])).text.split('name="csrf" value="')[1][:64]
        await browser.get(links[1])
        answer = await browser.http.post(links[0], data={"csrf": first})

    assert answer.status_code == 303


async def test_who_signs_in_again_leaves_no_session_behind(
    console: Console, table: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with console.signed_in() as browser, console.browser() as thief:
        thief.http.cookies.update(browser.http.cookies)
        assert (await thief.http.get("/operations")).status_code == 200
        await browser.sign_in(await console.link(subject="other"))
        kept = await table.fetchval("SELECT count(*) FROM console_sessions")
        before, now = await thief.http.get("/operations"), await browser.http.get("/operations")

    assert kept == 1
    assert (before.status_code, now.status_code) == (303, 200)


async def test_of_two_reveals_at_once_none_is_lost_and_the_last_are_kept(console: Console) -> None:
    sessions = console.app.state.sessions
    users = [UUID(int=number) for number in range(1, 1001)]
    async with console.signed_in() as browser:
        cookie = browser.http.cookies["muster_console"]
        session = await sessions.find(cookie)
        await asyncio.gather(*(sessions.reveal(session, [user]) for user in users[:20]))
        many = set((await sessions.find(cookie)).revealed)
        await sessions.reveal(await sessions.find(cookie), [users[0]])
        last = (await sessions.find(cookie)).revealed
        await sessions.reveal(await sessions.find(cookie), users[20:])
        await sessions.reveal(await sessions.find(cookie), [UUID(int=2000)])
        full = (await sessions.find(cookie)).revealed

    assert many == set(users[:20])
    assert last[-1] == users[0]
    assert len(full) == 1000
    assert full[-1] == UUID(int=2000)
    assert users[0] in full


async def test_a_session_that_is_in_use_is_not_forgotten_for_an_outage(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "_REMEMBERED", 2)
    async with console.signed_in() as first, console.signed_in() as second:
        await first.get("/operations")
        async with console.signed_in():
            console.app.state.sessions._database = _Away()
            used, forgotten = await first.http.get("/"), await second.http.get("/")

    assert (used.status_code, forgotten.status_code) == (200, 503)


async def test_a_session_that_was_seen_goes_on_without_the_query_database(console: Console) -> None:
    async with console.signed_in() as browser, console.browser() as stranger:
        await browser.get("/operations")
        stranger.http.cookies.set("muster_console", "x" * 43)
        console.app.state.sessions._database = _Away()
        seen, unseen = await browser.http.get("/"), await stranger.http.get("/")

    assert seen.status_code == 200
    assert unseen.status_code == 503


class _Away:
    """A database that does not answer; that a real one does so is the pool's to test."""

    def connection(self, _seconds: float) -> object:
        from chassis.postgres.database import DatabaseUnavailableError  # noqa: PLC0415 - for the one test

        raise DatabaseUnavailableError("away")


CHANGES = [rule for rule in ACCESS if rule.method == "POST"]


async def test_no_change_is_made_without_the_token_of_the_session(console: Console) -> None:
    async with console.signed_in() as browser, console.signed_in() as other:
        theirs = (await other.get("/operations")).text.split('name="csrf" value="')[1][:64]
        for rule in CHANGES:
            path = rule.path.replace("{id}", "01a203c9-2100-7681-90d7-176ca6de65cd")
            for token in ("", "x", theirs):
                answer = await browser.http.post(path, data={"csrf": token, "reason": "x"})
                assert answer.status_code == 403, rule
                assert "not of this session" in answer.text
        still = await browser.http.get("/operations")

    assert still.status_code == 200, "signing out is a change, too"


async def test_what_the_token_lacks_is_refused_and_is_no_button(console: Console) -> None:
    async with console.signed_in("operations:read") as browser:
        page = await browser.get("/operations")
        refused = {
            rule.path: (await browser.http.post(rule.path.replace("{id}", "x"), data={})).status_code
            for rule in CHANGES
            if rule.scopes
        }
        users = await browser.http.get("/users")

    assert "Users" not in page.text
    assert set(refused.values()) == {403}
    assert users.status_code == 403
    assert "users:read" in users.text


async def test_strangers_are_led_to_the_sign_in_and_change_nothing(console: Console) -> None:
    async with console.browser() as stranger:
        for rule in ACCESS:
            path = rule.path.replace("{id}", "01a203c9-2100-7681-90d7-176ca6de65cd")
            answer = await stranger.http.request(rule.method, path)
            assert answer.status_code == (303 if rule.method == "GET" else 401), rule
        missing = await stranger.http.get("/nothing")

    assert missing.status_code == 404
    assert "There is no such page" in missing.text


#: No page, with or without a rule, is shown to a stranger by any of these spellings.
DISGUISES = ("%0A", "%0a%0A", "/", "//", "%00", ";x", "%20", "%2F", "?x", "%0D", "%0D%0A", "%E2%80%A8")


@pytest.mark.parametrize("signed_in", [False, True])
async def test_no_spelling_of_a_path_shows_a_page_to_a_stranger(console: Console, signed_in: bool) -> None:
    async with console.browser() as stranger, console.signed_in("events:read") as clerk:
        browser = clerk if signed_in else stranger
        for rule in ACCESS:
            if "events:read" in rule.scopes or not rule.scopes:
                continue
            for disguise in DISGUISES:
                path = rule.path.replace("{id}", "01a203c9-2100-7681-90d7-176ca6de65cd") + disguise
                answer = await browser.http.request(rule.method, path)
                assert answer.status_code in {303, 401, 403, 404, 405}, (rule, disguise)
                assert answer.headers.get("location", "/sign-in") == "/sign-in", (rule, disguise)


async def test_a_page_behind_a_guard_that_lets_everybody_by_shows_nothing(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AccessTable, "find", lambda *_: None)
    async with console.signed_in() as browser:
        answers = {rule: (await browser.http.request(rule.method, rule.path)).status_code for rule in ACCESS}

    assert set(answers.values()) == {500}


def test_a_route_that_says_nothing_about_access_is_not_started(
    command_database: PostgresAddress, query_database: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = Route("/forgotten", lambda _: PlainTextResponse("x"))
    monkeypatch.setattr(console_app, "_ROUTES", (*console_app._ROUTES, forgotten))
    with pytest.raises(UncoveredRouteError, match="/forgotten"):
        create_app(make_settings(command_database, query_database))


async def test_every_answer_keeps_others_out_of_the_page(console: Console) -> None:
    async with console.signed_in() as browser:
        for path in ("/", "/users", "/operations", "/nothing", "/sign-in", "/users/x", "/health"):
            headers = (await browser.http.get(path)).headers
            assert "script-src 'self';" in headers["content-security-policy"], path
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["cache-control"] == "no-store"


async def test_with_access_off_there_is_no_sign_in_but_still_no_foreign_form(
    command_database: PostgresAddress, query_database: PostgresAddress
) -> None:
    off = dict.fromkeys(("AUTH_ISSUER", "AUTH_AUDIENCE", "AUTH_JWKS_FILE"))
    settings = make_settings(command_database, query_database, **off, AUTH_DISABLED=True)
    async with serving(settings, query_database) as console, console.browser() as browser:
        inside = await browser.get("/operations")
        foreign = await browser.http.post("/users", data={"text": "ada"})
        elsewhere = await browser.http.get("http://evil.example/operations")

    assert inside.status_code == 200
    assert foreign.status_code == 403
    assert elsewhere.status_code == 421
