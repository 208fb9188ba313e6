"""A user's journey through the whole of Muster, and what happens to it when parts die on the way."""

import asyncio
import json
import os
import re
import signal
import stat
import subprocess
import time
from contextlib import AsyncExitStack
from typing import Any
from unicodedata import normalize

import httpx
import psutil
import pytest
from argon2 import PasswordHasher
from pydantic import validate_email

from chassis.kafka.client import REQUEST_SECONDS
from examples import login_app
from examples.login_app import LoginPages, create_app
from tests.acceptance.clients import Registered, read, register
from tests.acceptance.overview import NAMED_SECONDS, WELL_SECONDS, Overview, frozen, refusing, signed_in
from tests.acceptance.stack import Stack, clean_environment, run_muster
from tests.hostile.sets import naughty_strings
from tests.waiting import until

HTTP_SECONDS = 30
#: Imported as it is, so that hundreds of users cost no hashes.
HASH = PasswordHasher(memory_cost=8, time_cost=1, parallelism=1).hash("correct horse")
#: Longer than any of our clients waits for an answer of the broker's.
OUTAGE_SECONDS = REQUEST_SECONDS + 2
USERS_OF_THE_OUTAGE = 20
PROCESSES = ["command-api", "query-api", "relay", "projectors", "event-api", "console"]


async def test_a_registered_user_is_read_back_from_the_query_api(stack: Stack) -> None:
    async with httpx.AsyncClient(timeout=HTTP_SECONDS) as http:
        user = await register(http, stack)
        answer = await read(http, user)

        listed = await http.get(f"{stack.query_url}/users", headers={**stack.bearer, "Consistency-Token": user.token})

    assert answer.status_code == 200
    assert answer.json() == user.document
    assert user.location == f"{stack.query_url}/users/{user.id}"
    assert listed.json()["data"][0] == user.document


async def test_the_login_page_of_the_examples_signs_people_in_and_resets_by_mail(stack: Stack) -> None:
    mails: list[tuple[str, str]] = []
    async with (
        httpx.AsyncClient(base_url=stack.command_url, headers=stack.bearer, timeout=HTTP_SECONDS) as muster,
        httpx.AsyncClient(base_url=stack.query_url, headers=stack.bearer, timeout=HTTP_SECONDS) as queries,
    ):
        user = await register(muster, stack)
        await read(queries, user)
        pages = LoginPages(muster, queries, lambda to, link: mails.append((to, link)))
        pages.address = "https://login.example.com"
        login: dict[str, Any] = {"transport": httpx.ASGITransport(create_app(pages)), "base_url": "http://login"}
        # Whoever asks for a mail chooses the Host.
        async with httpx.AsyncClient(**login, headers={"Host": "evil.example"}, follow_redirects=True) as browser:
            name, email = user.document["username"], user.document["email"]
            wrong = await submit(browser, "login", identifier=name, password="wrong")
            forged = await browser.post("/login", data={"identifier": name, "password": "correct horse"})
            signed_in = await submit(browser, "login", identifier=email, password="correct horse")
            device = browser.cookies["device"]
            signed_out = await submit(browser, "logout")
            for _ in range(10):
                await muster.post("/credentials/verify", json={"identifier": email, "password": "a guess"})
            known = await submit(browser, "login", identifier=email, password="correct horse")
            await submit(browser, "logout")
            await submit(browser, "forgot", email=email)
            [(to, link)] = mails
            token = link.removeprefix("https://login.example.com/reset#")
            refused = await submit(browser, "reset", page="/reset", token=token, password="PassWord1")
            reset = await submit(browser, "reset", page="/reset", token=token, password="another horse of hers")
            used_up = await submit(browser, "reset", page="/reset", token=token, password="another horse of hers")
            cut_off = await submit(browser, "reset", page="/reset", token="", password="another horse of hers")
            renewed = await submit(browser, "login", identifier=name, password="another horse of hers")
            gone = await muster.post(f"/users/{user.id}/deactivate")
            seen = {"Consistency-Token": gone.headers["Consistency-Token"]}
            (await queries.get(f"/users/{user.id}", headers=seen)).raise_for_status()
            ended = await browser.get("/")

    assert "wrong" in wrong.text
    assert (forged.status_code, "wrong" in forged.text, "send it again" in forged.text) == (403, False, True)
    assert all(f"Hello, {name}" in answer.text for answer in (signed_in, known, renewed))
    assert not any("Hello" in answer.text for answer in (signed_out, ended))
    assert to == email
    assert "has been changed" in reset.text
    assert (refused.status_code, "<p>the password is on a list" in refused.text) == (422, True)
    # The form is there again, for another password, and what it sends to keeps the token behind its #.
    assert login_app.FILL_IN in refused.text
    assert ['action="/reset"' in each.text for each in (refused, reset, used_up)] == [True, False, False]
    assert [(each.status_code, "used up" in each.text) for each in (used_up, cut_off)] == [(400, True)] * 2
    assert device not in str(browser.cookies)


async def test_the_login_page_keeps_no_stranger_and_no_session_for_ever_and_tells_an_outage_from_a_wrong_link(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        httpx.AsyncClient(base_url=stack.command_url, headers=stack.bearer, timeout=HTTP_SECONDS) as muster,
        httpx.AsyncClient(base_url=stack.query_url, headers=stack.bearer, timeout=HTTP_SECONDS) as queries,
    ):
        user = await register(muster, stack)
        await read(queries, user)
        # To the query API a reset is an unknown path, and issuing a token to somebody who is there is 404.
        pages, misled = LoginPages(muster, queries, print), LoginPages(queries, queries, print)
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(create_app(pages)), base_url="http://login") as browser,
            httpx.AsyncClient(transport=httpx.ASGITransport(create_app(misled)), base_url="http://login") as other,
        ):
            shown = await browser.get("/")
            kept = len(pages.sessions)
            monkeypatch.setattr(login_app, "SESSION_SECONDS", 0)
            welcome = await submit(browser, "login", identifier=user.document["email"], password="correct horse")
            over = await browser.get("/")
            again = await submit(other, "reset", page="/reset", token="any", password="another horse of hers")
            forgotten = await submit(other, "forgot", email=user.document["email"])

    assert (kept, "session" in shown.cookies) == (0, True)
    assert (welcome.status_code, len(pages.sessions), "Hello" in over.text) == (303, 1, False)
    assert (again.status_code, "Try again" in again.text, "used up" in again.text) == (404, True, False)
    assert "a mail is on its way" in forgotten.text


async def test_the_login_page_promises_no_mail_while_it_can_send_none(stack: Stack) -> None:
    async with (
        httpx.AsyncClient(base_url=stack.command_url, timeout=HTTP_SECONDS) as refused,
        httpx.AsyncClient(base_url=stack.command_url, headers=stack.bearer, timeout=HTTP_SECONDS) as muster,
        httpx.AsyncClient(base_url=stack.query_url, headers=stack.bearer, timeout=HTTP_SECONDS) as queries,
    ):
        user = await register(muster, stack)
        await read(queries, user)
        said = []
        # Nobody may ask without a token; and the command API has no search.
        for pages in (LoginPages(refused, queries, print), LoginPages(muster, muster, print)):
            login = httpx.ASGITransport(create_app(pages))
            async with httpx.AsyncClient(transport=login, base_url="http://login") as browser:
                said.append(await submit(browser, "forgot", email=user.document["email"]))

    assert [(answer.status_code, "Try again" in answer.text) for answer in said] == [(503, True)] * 2
    assert "a mail is on its way" not in said[0].text + said[1].text


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(502, html="<h1>Bad Gateway</h1>"),
        httpx.Response(429, html="<h1>Slow down</h1>"),
        httpx.Response(403, json={"message": "Forbidden"}),
        httpx.Response(503, json=["no", "problem"]),
        None,
    ],
    ids=lambda answer: "no answer" if answer is None else f"{answer.status_code} {answer.headers['content-type']}",
)
async def test_the_login_page_stands_what_a_proxy_answers_in_musters_place(answer: httpx.Response | None) -> None:
    async def proxy(request: httpx.Request) -> httpx.Response:
        if answer is None:
            raise httpx.ConnectError("nobody listens", request=request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    async with httpx.AsyncClient(transport=httpx.MockTransport(proxy), base_url="http://proxy") as muster:
        login = httpx.ASGITransport(create_app(LoginPages(muster, muster, print)))
        async with httpx.AsyncClient(transport=login, base_url="http://login") as browser:
            said = [
                await submit(browser, "login", identifier="ann", password="correct horse"),
                await submit(browser, "forgot", email="ann@example.com"),
                await submit(browser, "reset", page="/reset", token="any", password="another horse of hers"),
            ]
            shown = await browser.get("/")
            said += [
                await browser.post(
                    f"/{action}", content=b"csrf=\xff&identifier=%ff\xfe", headers={"Cookie": "session=x"}
                )
                for action in ("login", "logout", "forgot", "reset")
            ]

    assert shown.status_code == 200
    # What may be tried again has its form again.
    assert 'action="/reset"' in said[2].text
    assert all(
        each.status_code != 500 and "<title>Muster</title>" in each.text for each in said if each.status_code != 303
    )
    assert not any("a mail is on its way" in each.text for each in said)


async def submit(browser: httpx.AsyncClient, action: str, *, page: str = "/", **fields: str) -> httpx.Response:
    """Send a form of a page, as a browser would."""
    form = (await browser.get(page)).text.partition(f'action="/{action}"')[2]
    found = re.search('name="csrf" value="([^"]+)"', form)
    assert found, f"{page} has no form for {action}"
    return await browser.post(f"/{action}", data={"csrf": found[1], **fields})


async def test_the_last_lines_of_the_screen_work_when_pasted_into_another_terminal(stack: Stack) -> None:
    lines = [line.strip() for line in stack.screen.partition("Try, in another terminal:")[2].splitlines()]
    [token, registers, reads] = [line for line in lines if line.startswith(("TOKEN=", "curl "))]
    done = await asyncio.create_subprocess_exec(
        *("sh", "-ec", f"{token}\n{registers} --silent\necho\n{reads}"),
        cwd=stack.folder.parent,
        env=clean_environment(),
        stdout=subprocess.PIPE,
    )
    out, _ = await done.communicate()

    registered, _, listed = out.decode().rpartition("\n")
    assert registered.startswith("HTTP/1.1 201"), registered
    assert "data" in json.loads(listed)


async def test_strings_that_have_broken_programs_arrive_as_they_were_sent(stack: Stack) -> None:
    sent = naughty_users()
    async with httpx.AsyncClient(timeout=HTTP_SECONDS, headers=stack.bearer) as http:
        content_type = {"Content-Type": "application/x-ndjson"}
        body = b"\n".join(json.dumps(line).encode() for line in sent)
        answer = await http.post(f"{stack.command_url}/users/import", content=body, headers=content_type)
        *results, summary = [json.loads(line) for line in answer.text.splitlines()]
        assert summary["complete"]
        wanted = {one["id"]: sent[one["line"] - 1] for one in results if one["status"] == "created"}

        async def shown() -> dict[str, dict[str, Any]]:
            users: dict[str, dict[str, Any]] = {}
            asked: dict[str, Any] = {"limit": 100}
            while asked:
                page = (await http.get(f"{stack.query_url}/users", params=asked)).json()
                users |= {user["id"]: user for user in page["data"]}
                asked = {"cursor": page["next_cursor"], "limit": 100} if page["next_cursor"] else {}
            return users if wanted.keys() <= users.keys() else {}

        users = await until(shown, within=HTTP_SECONDS, what="all users are shown")

    naughty = [line for line in wanted.values() if "display_name" in line]
    assert len(naughty) == len(naughty_strings())
    for field, at_least in (("username", 50), ("email", 20)):
        assert sum("display_name" not in line and "naughty" not in line[field] for line in wanted.values()) > at_least
    for identifier, line in wanted.items():
        # What the command made of it, and of nothing but these two.
        expected = line | {"email": validate_email(line["email"])[1], "username": normalize("NFC", line["username"])}
        del expected["password_hash"]
        assert {field: users[identifier][field] for field in expected} == expected


def naughty_users() -> list[dict[str, Any]]:
    """Each string as a name to show and in attributes; and as a username and an address, of which some are none."""
    users: list[dict[str, Any]] = []
    for number, string in enumerate(naughty_strings()):
        name = f"naughty{number}"
        users += [
            {"email": f"{name}@example.com", "username": name, "display_name": string[:200]}
            | {"attributes": {string: [string]}},
            {"email": f"{name}-u@example.com", "username": string},
            {"email": f"{string}@example.net", "username": f"{name}-e"},
            {"email": string, "username": f"{name}-a"},
        ]
    return [{**user, "password_hash": HASH} for user in users]


async def test_an_import_finds_address_and_token_of_the_stack(stack: Stack) -> None:
    users = stack.folder.parent / "users.ndjson"
    users.write_text('{"email": "imported@example.com", "username": "imported", "password": "correct horse"}\n')
    code, out, err = await run_muster(
        *("import", str(users), "--json"),
        environment=clean_environment() | {"MUSTER_FOLDER": str(stack.folder)},
        folder=stack.folder.parent,
    )

    assert code == 0, err
    assert json.loads(out)["created"] == 1


async def test_no_other_user_of_the_machine_can_read_what_a_stack_keeps(stack: Stack) -> None:
    others = stat.S_IRWXG | stat.S_IRWXO
    kept = [path for path in stack.folder.rglob("*") if path.is_file() and not path.is_symlink()]

    assert {"kafka", "logs", "postgres"} <= {path.relative_to(stack.folder).parts[0] for path in kept}
    # The public keys of the issuer.
    assert {path.name for path in kept if path.stat().st_mode & others} == {"jwks.json"}
    # What has people's addresses in it: the broker's segments, and the databases, whose folder nobody may enter.
    assert [path for path in kept if path.suffix == ".log" and path.parent.name.startswith("users.events-")]
    data = {path.parent for path in kept if path.name == "postgresql.conf"}
    assert data
    assert [folder for folder in data if folder.stat().st_mode & others] == []


async def test_the_demo_shows_every_users_event_and_read(stack: Stack) -> None:
    code, out, err = await stack.muster("demo", "--users", "5", "--json")

    assert code == 0, err
    report = json.loads(out)
    assert [user["event"] for user in report["users"]] == ["registered"] * 5
    assert all(user["visible_ms"] > 0 for user in report["users"])
    assert err.count("registered") == 6


async def test_the_doctor_finds_nothing_wrong_with_a_fresh_stack(stack: Stack) -> None:
    code, out, err = await stack.muster("doctor", "--json")

    assert {finding["result"] for finding in json.loads(out)} == {"ok"}, out
    assert (code, err) == (0, "")


async def test_the_console_signs_in_by_the_link_of_the_stack_and_shows_a_user(stack: Stack) -> None:
    async def shown() -> bool:  # the last lines come when the stack is ready already
        return f"The console: http://127.0.0.1:{stack.ports['console']}/sign-in/" in stack.screen

    await until(shown, within=60, what="the link of the stack")
    async with signed_in(stack) as browser:
        user = await register(browser, stack)
        await read(browser, user)
        page = await browser.get(f"/users/{user.id}")

    assert "Registered" in page.text
    assert user.document["email"] not in page.text


async def test_the_console_names_every_part_that_stops_within_20_s_and_calls_nothing_well_that_it_cannot_know(
    stack: Stack,
) -> None:
    """Each is nearer to an event's beginning than those that have stopped before it, so it is in the headline."""
    async with AsyncExitStack() as stopped, signed_in(stack) as browser:
        overview = Overview(browser)
        await overview.says("All is well", WELL_SECONDS)
        assert set(overview.stations.values()) == {"good"}

        for process, part in (("event-api", "Event API"), ("query-api", "Query API"), ("projectors", "Projectors")):
            stopped.enter_context(frozen(stack, process))
            await overview.says(f"Not well: {part}, ", NAMED_SECONDS)
            assert overview.stations[part] == "bad"

        await stopped.enter_async_context(refusing(stack, "muster_query"))
        await overview.says("Not well: Query database, ", NAMED_SECONDS)
        assert overview.stations["Kafka"] == "good", "it is asked itself"

        stopped.enter_context(frozen(stack, "kafka"))
        await overview.says("Not well: Kafka, ", NAMED_SECONDS)
        assert overview.stations["Outbox"] == "good"

        stopped.enter_context(frozen(stack, "relay"))
        await overview.says("Not well: Relay, ", NAMED_SECONDS)
        assert overview.stations["Command API"] == "good"

        stopped.enter_context(frozen(stack, "command-api"))
        await overview.says("Not well: Command API, ", NAMED_SECONDS)

        await stopped.enter_async_context(refusing(stack, "muster_command"))
        await overview.says("Not well: Command database, ", NAMED_SECONDS)
        assert overview.stations["Outbox"] == "unknown"
        assert overview.stations["Relay"] == "bad", "it is dead, whatever the database says"

        await stopped.aclose()
        await overview.says("All is well", WELL_SECONDS)
        assert set(overview.stations.values()) == {"good"}


@pytest.mark.parametrize("name", PROCESSES)
async def test_a_process_that_is_killed_comes_back_and_nothing_is_lost(stack: Stack, name: str) -> None:
    async with httpx.AsyncClient(timeout=HTTP_SECONDS) as http:
        before = [await register(http, stack) for _ in range(5)]
        pid = stack.pid(name)
        os.kill(pid, signal.SIGKILL)

        async def restarted() -> bool:
            return stack.pid(name) != pid

        await until(restarted, within=60, what=f"a new {name}")
        await stack.until_ready(name)
        after = [await register(http, stack) for _ in range(5)]

        answers = [await read(http, user) for user in before + after]

    assert [answer.json() for answer in answers] == [user.document for user in before + after]


async def test_commands_succeed_while_the_broker_hangs_and_are_visible_afterwards(stack: Stack) -> None:
    """The outbox absorbs the outage: the command API neither fails nor says that it is not ready."""
    users: list[Registered] = []
    broker = stack.pid("kafka")
    async with httpx.AsyncClient(timeout=HTTP_SECONDS) as http:
        os.kill(broker, signal.SIGSTOP)
        try:
            end = time.monotonic() + OUTAGE_SECONDS

            async def outage_is_over() -> bool:
                users.append(await register(http, stack))
                assert (await http.get(f"{stack.command_url}/readyz")).status_code == 200
                return time.monotonic() > end

            await until(outage_is_over, within=OUTAGE_SECONDS * 2, what="the end of the outage")
            assert (await read(http, users[-1], wait=1)).status_code == 504
        finally:
            os.kill(broker, signal.SIGCONT)
        for user in users:

            async def visible(user: Registered = user) -> bool:
                return (await read(http, user)).status_code == 200

            await until(visible, within=60, what="every user of the outage")

    assert len(users) > USERS_OF_THE_OUTAGE


async def test_ctrl_c_ends_everything_in_order_and_the_data_stays(stack: Stack) -> None:
    async with httpx.AsyncClient(timeout=HTTP_SECONDS) as http:
        user = await register(http, stack)
        pids = [stack.pid(name) for name in [*PROCESSES, "kafka", "postgres"]]

        code = await stack.stop()

        assert code == 0, stack.screen
        assert not [pid for pid in pids if psutil.pid_exists(pid)]
        assert not (stack.folder / "stack.json").exists()
        stopped = [line.removeprefix("Stopping ") for line in stack.screen.splitlines() if "Stopping " in line]
        assert [line.split()[0] for line in stopped] == ["command-api", "relay", "projectors", "kafka", "postgres"]
        await stack.start()
        assert (await read(http, user)).json() == user.document
