"""Every page of the console in a real Chromium: whether everybody can use it, and whether a text stays a text.

`make test-browser` has axe look at each page in every width, light and dark; other runs on a phone and on a desk.
"""

import json
import os
from typing import Any
from urllib.parse import quote

from tests.browser.filling import clients, park, publish_stranger
from tests.browser.naughty import MARKUP, plant
from tests.browser.office import AXE, Office, stopped

EVERY = bool(os.environ.get("EVERY_LOOK"))
#: What the browser's console says of pages that refuse.
REFUSED = tuple(f"status of {status}" for status in (400, 403, 404, 409, 503))
PAGES = ("/", "/users", "/events", "/projections", "/parked", "/subscribers", "/operations")
#: As wide as a name may be; between them are no places to break.
WIDEST = "\uff37" * 50


async def test_every_page_is_fit_for_everybody_and_every_width(office: Office) -> None:
    await park(office.stack)
    [first, *_] = json.loads((await office.stack.muster("parked", "list", "--json"))[1])
    record = f"/parked/{first['id']}"
    user = await _widest(office)
    ways = [
        *([path] for path in (*PAGES, "/sign-in", "/sign-in/x", "/nothing", "/users/nobody", "/events?type=x")),
        # What is shown in clear stays so for the session.
        *([user], [user, "Show it"], ["/users", "Show it"], [f"/users/{office.filled.changed}", "Make a token"]),
        *([record], [record, "Show them"], [record, "See what a discard would do"]),
        [f"/subscribers/receipts/{office.filled.erased}"],
    ]
    # One way a job: all of them in every width take longer than a job may on a loaded machine.
    assert [line for way in ways for line in await _wrong(office, way)] == []


async def test_so_is_a_page_of_what_is_under_way_differs_fails_or_is_gone(office: Office) -> None:
    async with clients(office.stack) as api:
        body = {"username": "gone-soon", "email": "gone@example.com", "password": "correct horse battery"}
        gone = str((await api.command("POST", "/users", body)).json()["id"])
        await api.visible(gone)
    wrong = await _wrong(office, ["/projections", "Rebuild signups"], ".notice:has-text('has caught up')")
    switch = ["/projections", "Let queries read generation 2"]
    wrong += await _wrong(office, switch, "summary:has-text('Roll back')")
    await publish_stranger(office.stack)
    # Whoever differs is looked at for ten seconds, in which the rebuild goes on.
    wrong += await _wrong(office, ["/projections", "Rebuild users"], ".progress")
    wrong += await _wrong(office, ["/projections"], "label.check")
    taken = [f"/users/{gone}", ["The right address", "countess@example.com"], "Change the address"]
    wrong += await _wrong(office, taken, "h1:has-text('is taken')")
    erase = [f"/users/{gone}", "Show it", ["Type", "gone-soon"], "Erase this user for good"]
    wrong += await _wrong(office, erase, "h1:has-text('Erased')")
    async with stopped(office.stack, "relay", "query-api"):
        wrong += await _wrong(office, ["/"], ".station.bad")
        wrong += await _wrong(office, ["/users"], "h1:has-text('does not answer')")

    assert wrong == []


async def _wrong(office: Office, way: list[Any], showing: str = "main") -> list[str]:
    """What is wrong with a page once it shows that."""
    said = await office.operator.do("look", expected=REFUSED, axe=str(AXE), way=way, showing=showing, every=EVERY)
    found: list[str] = said["wrong"]
    return found


async def _widest(office: Office) -> str:
    """The page of a user whose name, address and attributes leave no place to break a line."""
    async with clients(office.stack) as api:
        body: dict[str, Any] = {
            "username": WIDEST,
            "email": f"{'w' * 64}@{'.'.join(['w' * 60] * 3)}.com",
            "password": "correct horse battery",
            "display_name": WIDEST * 4,
            "attributes": {"w" * 300: "w" * 3000},
        }
        user = (await api.command("POST", "/users", body)).json()["id"]
        await api.command("POST", f"/users/{user}/deactivate", {"reason": "w" * 500})
        await api.command("POST", f"/users/{user}/reactivate", {"reason": None})
        await api.visible(user)
    return f"/users/{user}"


async def test_no_string_does_anything_on_any_page_and_each_is_shown_to_the_letter(office: Office) -> None:
    async with clients(office.stack) as api:
        planted = await plant(api)
    do = office.operator.do
    texts = await do("read", ways=list(planted.texts))
    attributes = await do("read", ways=list(planted.attributes))
    listed = await do("leaf_through_users")
    searched = await do("search_for", strings=MARKUP)
    others = await do("read", ways=[[path] for path in PAGES])
    refused = await do("read", ways=[[path] for path in _addresses()], expected=REFUSED)

    assert [each["foreign"] for each in (listed, texts, attributes, searched, others, refused)] == [[]] * 6
    assert len(planted.usernames) > 100
    assert set(planted.usernames) - set(listed["texts"]) == set()
    for (way, expected), shown in zip(planted.texts.items(), texts["texts"], strict=True):
        assert set(expected) - set(shown) == set(), way
    for (way, document), shown in zip(planted.attributes.items(), attributes["texts"], strict=True):
        assert document in map(_read, shown), way
    assert searched["texts"] == [text.strip() for text in MARKUP]


def _addresses() -> list[str]:
    """Addresses of pages that somebody else may have made up."""
    places = (
        "/{}",
        "/users/{}",
        "/parked/{}/1/0/1",
        "/sign-in/{}",
        "/events?type={}",
        "/events?user={}",
        "/users?part={}",
        "/parked?after={}",
    )
    return [place.format(quote(text, safe="")) for text in MARKUP[:5] for place in places]


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
