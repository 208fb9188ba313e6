"""What the console does not know it says so: of a change that nobody answered for, a notice, a rebuild, a session."""

import json
from collections.abc import Callable
from uuid import UUID

import httpx
import pytest

from console.access import ACCESS
from console.apis import Apis
from console.projections.rebuilds import RebuildPart
from console.sign_in.sealing import seal
from tests.integration.console.conftest import SECRET, Browser, Console
from tests.integration.console.test_parked import park
from tests.integration.console.test_users import registered
from tests.integration.projectors.stream import FakeRecord, new_user
from tests.integration.query_api.read_side import ReadSide

UNSURE = "Whether anything was changed is not known"
Answer = Callable[[httpx.Request], httpx.Response]


def problem(status: int) -> Answer:
    body = {"title": "Something", "detail": "somehow"}
    return lambda _: httpx.Response(status, json=body, headers={"Content-Type": "application/problem+json"})


def html(status: int) -> Answer:
    return lambda _: httpx.Response(status, text="<html>")


def failing(error: type[httpx.TransportError]) -> Answer:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error("x", request=request)

    return fail


UNANSWERED = [
    *(failing(each) for each in (httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.ReadError)),
    *(problem(status) for status in (500, 503, 504)),
    *(html(status) for status in (502, 503)),
]
REFUSED = [problem(status) for status in (400, 403, 404, 409, 422, 429)]


async def outcomes(read_side: ReadSide) -> list[str]:
    rows = await read_side.connection.fetch("SELECT outcome FROM console_operations ORDER BY id")
    return [row["outcome"] for row in rows]


async def answering(desk: Console, browser: Browser, user: UUID, answer: Answer) -> str:
    """What a person is told of a change to which the command API answers so."""
    apis: Apis = desk.app.state.apis
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://command") as command:
        desk.app.state.apis = Apis(command, apis._query, apis._events)
        try:
            return (await browser.send(f"/users/{user}/deactivate")).text
        finally:
            desk.app.state.apis = apis


async def test_what_became_of_a_change_that_nobody_answered_for_is_not_known_and_never_refused(
    desk: Console, read_side: ReadSide
) -> None:
    ada = await registered(desk, read_side)
    async with desk.signed_in() as browser:
        unsure = [await answering(desk, browser, ada, answer) for answer in UNANSWERED]
        sure = [await answering(desk, browser, ada, answer) for answer in REFUSED]
    recorded = await outcomes(read_side)

    assert all(UNSURE in page and "Nothing was changed" not in page for page in unsure)
    assert not any(UNSURE in page for page in sure)
    assert [outcome.partition(":")[0] for outcome in recorded] == ["not known"] * len(UNANSWERED) + ["refused"] * len(
        REFUSED
    )


async def test_a_change_in_the_middle_of_which_the_query_database_is_lost_is_not_known(
    console: Console, read_side: ReadSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chassis.postgres.database import DatabaseUnavailableError  # noqa: PLC0415 - for the one test

    async def lost(*_: object) -> None:
        raise DatabaseUnavailableError("lost")

    monkeypatch.setattr("projectors.operations.rebuild.roll_back", lost)
    async with console.signed_in() as browser:
        answer = await browser.send("/projections/users/rollback")

    assert (answer.status_code, UNSURE in answer.text, "Nothing was" in answer.text) == (503, True, False)
    assert await outcomes(read_side) == ["not known: the query database did not answer"]


async def test_a_link_is_not_spent_where_its_session_cannot_be_kept(console: Console, read_side: ReadSide) -> None:
    link = await console.link()
    async with console.browser() as browser:
        await read_side.connection.execute("ALTER TABLE console_sessions RENAME TO elsewhere")
        failed = await browser.sign_in(link)
        await read_side.connection.execute("ALTER TABLE elsewhere RENAME TO console_sessions")
        again = await browser.sign_in(link)

    assert (failed.status_code, again.status_code) == (500, 303)


@pytest.mark.parametrize("deed", ["rollback", "retire", "rebuild", "switch"])
async def test_a_page_that_is_old_does_nothing_to_a_rebuild_that_goes_on(console: Console, deed: str) -> None:
    running = RebuildPart("users", switches=False)
    console.app.state.rebuilds._parts["users"] = running
    async with console.signed_in() as browser:
        answer = await browser.send(f"/projections/users/{deed}", generation="1")

    assert answer.status_code == 409
    assert "That projection is being rebuilt" in answer.text or "That is being done already" in answer.text
    console.app.state.rebuilds.forget("users")
    assert console.app.state.rebuilds.of("users") is running


async def test_what_asks_by_itself_is_told_that_the_session_is_over(console: Console) -> None:
    async with console.browser() as stranger:
        for rule in ACCESS:
            if rule.method == "GET":
                polled = await stranger.http.get(rule.path, headers={"HX-Request": "true"})
                assert (polled.status_code, polled.headers["hx-redirect"]) == (401, "/sign-in"), rule
                streamed = await stranger.http.get(rule.path, headers={"Accept": "text/event-stream"})
                assert streamed.headers["content-type"].startswith("text/event-stream")
                assert streamed.text.startswith("event: over\ndata: Not live: you are not signed in any more.\n")


@pytest.mark.parametrize(
    "path", ["/users/{id}?after=ä", "/users/{id}?after=%00&done=erased&proof=x", "/users/{id}?cursor=ä"]
)
async def test_an_address_that_somebody_has_made_up_is_no_error_of_ours(
    desk: Console, read_side: ReadSide, path: str
) -> None:
    ada = await registered(desk, read_side)
    async with desk.signed_in() as browser:
        answer = await browser.get(path.replace("{id}", str(ada)))

    assert answer.status_code in {200, 400}


async def test_a_position_that_no_header_can_carry_is_told_of_and_asked_of_nobody(console: Console) -> None:
    async with console.signed_in() as browser:
        answers = [await browser.http.get(f"/live/events?after={text}") for text in ("ä", "%00", "%E2%80%A8")]

    for answer in answers:
        assert answer.text.startswith("event: over\ndata: Not live: That address cannot be read.")


async def test_what_is_sealed_for_something_else_is_no_search(desk: Console) -> None:
    async with desk.signed_in() as browser:
        cookie = browser.http.cookies["muster_console"]
        others = [seal([SECRET], cookie, json.dumps(content).encode()) for content in ({"token": "x"}, ["x"], 1)]
        others.append(seal([SECRET], cookie, b'{"token": "x"}', kind="another"))
        answers = [await browser.get(f"/users?search={sealed.decode()}") for sealed in others]
        answers += [await browser.get(f"/users?search={text}") for text in ("ä", "%00", "x")]

    assert {answer.status_code for answer in answers} == {400}


async def test_no_address_claims_what_this_session_has_not_done(desk: Console, read_side: ReadSide) -> None:
    ada = await registered(desk, read_side)
    nobody = UUID(int=7)
    async with desk.signed_in() as browser, desk.signed_in() as other:
        done = await browser.send(f"/users/{ada}/deactivate", page=f"/users/{ada}")
        erased = await browser.send(f"/users/{ada}/reactivate", page=f"/users/{ada}")
        told = httpx.URL(erased.url).raw_path.decode()
        foreign = (await other.get(told)).text
        of_another = (await browser.get(told.replace(str(ada), str(nobody)))).status_code
        claims = [
            (await browser.get(path)).text
            for path in (
                f"/users/{nobody}?done=erased",
                f"/users/{ada}?done=deactivated",
                "/projections?done=retired",
                "/parked?applied=1&discarded=2&remaining=3",
            )
        ]

    assert "is as it was before" in done.text, "what this session has done is told"
    assert 'class="notice" role="status"' not in foreign
    assert of_another == 404
    for page in claims:
        assert "The user is" not in page
        assert 'role="status"' not in page


@pytest.mark.parametrize(
    "error",
    [
        "the key b'ada@example.com' is no id",
        'the key b"ada@example.com\'" is no id',
        "ce_source is 'ada@example.com', not '/muster'",
        "ce_source is 'ada@example.co",
        "ValueError: 'it\\'s ada@example.com'",
    ],
)
async def test_a_cause_quotes_nobody_before_it_is_revealed(console: Console, read_side: ReadSide, error: str) -> None:
    ann = new_user(1)
    await park(read_side, 1, ann, FakeRecord(b"ada@example.com", b"{}", []), error)
    await park(read_side, 2, ann, FakeRecord(b"ada@example.com", b"{}", []), None)
    first, second = "/parked/users/1/0/1", "/parked/users/1/0/2"
    async with console.signed_in() as browser:
        masked = [(await browser.get(path)).text for path in ("/parked", first, second)]
        masked.append((await browser.send(f"{second}/preview", page=first)).text)
        clear = (await browser.send(f"{first}/reveal", page=first)).text

    assert not any("ada@" in page for page in masked)
    assert "•••" in masked[0]
    assert "ada@" in clear
