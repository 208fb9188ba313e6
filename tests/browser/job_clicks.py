"""The jobs of operators, each done in a page of a real Chromium (`clicking.py`); tells what the pages said.

Each can be done without scripts, too: a page that would change by itself is loaded again instead.
"""

from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page

from tests.browser.looking import examine

Told = dict[str, Any]
#: More than any page has places where Tab stops.
_MOST_TABS = 100
WELL = "() => document.querySelector('.headline').innerText === 'All is well'"
_STALE = """() => document.getElementById("stale").hidden ? null : {
    words: document.getElementById("stale-words").innerText, headline: document.querySelector(".headline").innerText
}"""


def sign_in(page: Page, told: Told) -> Told:
    page.goto(told["link"])
    page.get_by_role("button", name="Sign in").click()
    page.locator(".headline").wait_for()
    return {}


def _see(page: Page, told: Told, there: Locator) -> Locator:
    """What appears on the page by itself, or without scripts once it is loaded again."""
    while not told["scripts"] and not there.count():
        page.reload()
    there.first.wait_for()
    return there


def see_that_all_is_well(page: Page, told: Told) -> Told:
    """The overview says it by itself, once all has been looked at."""
    page.goto("/")
    _see(page, told, page.locator(".headline", has_text="All is well"))
    return {"states": sorted(set(page.locator(".station .badge").all_inner_texts()))}


def find_and_act(page: Page, told: Told) -> Told:
    """Find somebody, look at them, deactivate and reactivate them, make a token."""
    said = {}
    page.goto(_find(page, told["name"]))
    said["masked"] = page.locator("h1").inner_text()
    _show(page)
    said["clear"] = page.locator("h1 bdi").inner_text()
    said["document"] = page.locator("dl.document").inner_text()
    for summary, button in (("Deactivate", "Deactivate this user"), ("Reactivate", "Make this user active again")):
        page.locator("summary", has_text=summary).click()
        page.get_by_role("button", name=button).click()
        said[summary] = page.locator(".notice").inner_text()
    page.locator("summary", has_text="Reset the password").click()
    page.get_by_role("button", name="Make a token").click()
    said["token"] = page.locator("pre").inner_text()
    return said


def erase_by_keyboard(page: Page, told: Told) -> Told:
    """Without a mouse: move by Tab, act by Enter."""
    _find_by_keyboard(page, told["name"])
    _tab_to(page, "summary", "Erase")
    page.keyboard.press("Enter")
    _tab_to(page, "[name=username]")
    page.keyboard.type(told["name"])
    _enter(page, "button", "Erase this user for good")
    page.get_by_role("link", name="All users").wait_for()
    return {"erased": page.locator("h1").inner_text()}


def _find(page: Page, text: str) -> str:
    """Search for a user, and give the path of the first who is found."""
    page.goto("/users")
    page.get_by_label("An id, or the beginning of a username or an address").fill(text)
    page.get_by_role("button", name="Find").click()
    return str(page.locator("tbody a").first.get_attribute("href"))


def _show(page: Page) -> None:
    """Ask for the data in clear, which is once a session."""
    if page.get_by_role("button", name="Show it").count():
        page.get_by_role("button", name="Show it").click()
        page.get_by_role("button", name="Show it").wait_for(state="detached")


def outwait(page: Page, _: Told) -> Told:
    """Let half a minute pass on an open overview, to which nothing comes; once something has come it is as it was."""
    page.clock.install()
    page.goto("/")
    page.wait_for_function(WELL)
    said = None
    while said is None:  # something may come before it is read
        page.clock.fast_forward(30_000)
        said = page.evaluate(_STALE)
    page.wait_for_function(WELL)
    page.locator("#stale").wait_for(state="hidden")
    return dict(said)


def lose_session(page: Page, _: Told) -> Told:
    """Sign out beside an open overview; tells what that says then, and where it leads."""
    page.goto("/")
    page.wait_for_function(WELL)
    said = sign_out(page.context.new_page(), {})
    page.locator("#stale").wait_for()
    return said | {
        "words": page.locator("#stale-words").inner_text(),
        "way": str(page.locator("#stale-way").get_attribute("href")),
        "headline": page.locator(".headline").inner_text(),
        "states": " ".join(sorted(set(page.locator(".station .badge").all_inner_texts()))),
    }


def correct_an_address(page: Page, told: Told) -> Told:
    """Correct it, and read what happened, who did it, and how the event travelled."""
    page.goto(f"/users/{told['user']}")
    page.locator("summary", has_text="Correct the address").click()
    page.get_by_label("The right address").fill(told["email"])
    page.get_by_role("button", name="Change the address").click()
    page.locator(".notice").wait_for()
    notice = page.locator(".notice").inner_text()
    newest = page.locator(".timeline li").first
    # The history is a projection of its own, and may be a moment later than the user.
    while told["kind"] not in newest.inner_text():
        page.goto(f"/users/{told['user']}")
    return {"notice": notice, "newest": newest.inner_text()}


def see_what_is_not_well(page: Page, told: Told) -> Told:
    """The overview says it by itself, without being loaded again."""
    page.goto("/")
    _see(page, told, page.locator(".headline", has_text=told["part"]))
    return {"stations": page.locator(".station.bad h3").all_inner_texts()}


def see_which_partition_lags(page: Page, told: Told) -> Told:
    page.goto("/projections")
    section = page.locator(f"#{told['projection']}")
    section.locator("summary", has_text="Partitions of generation").click()
    rows = section.locator("details table tbody tr").all()
    return {row.locator("th").inner_text(): row.locator("td").first.inner_text() for row in rows}


def read_events(page: Page, told: Told) -> Told:
    """Without scripts: filtered, and newer ones once the page is loaded again."""
    page.goto("/events")
    page.get_by_label("What happened").select_option(label="Registered")
    page.get_by_role("button", name="Filter").click()
    user = _register(page, told, "read")
    _see(page, told, page.locator(f"[title='{user}']"))
    return {"kinds": sorted(set(page.locator("tbody .badge").all_inner_texts()))}


def watch_events(page: Page, told: Told) -> Told:
    """Live, filtered, paused, and on again."""
    page.goto("/events")
    page.get_by_label("What happened").select_option(label="Registered")
    page.get_by_role("button", name="Filter").click()
    page.get_by_text("Live", exact=True).wait_for()
    rows = page.locator("tbody tr")
    first = _register_and_wait(page, told, "first")
    page.get_by_role("button", name="Pause").click()
    paused = page.locator("#live-state").inner_text()
    second = _register(page, told, "second")
    _visible(page, told, second)
    kept_still = rows.first.locator("code").get_attribute("title") or rows.first.locator("a").get_attribute("title")
    page.get_by_role("button", name="Go on").click()
    page.locator(f"[title='{second}']").wait_for()
    kinds = set(page.locator("tbody .badge").all_inner_texts())
    return {"first": first, "paused": paused, "still": kept_still, "kinds": sorted(kinds)}


def _register_and_wait(page: Page, told: Told, name: str) -> str:
    user = _register(page, told, name)
    page.locator(f"[title='{user}']").wait_for()
    return user


def _register(page: Page, told: Told, name: str) -> str:
    body = {"email": f"{name}@live.example.com", "username": f"live-{name}", "password": "correct horse"}
    answer = page.request.post(f"{told['command']}/users", data=body, headers=told["bearer"])
    return str(answer.json()["id"])


def _visible(page: Page, told: Told, user: str) -> None:
    """Return once the event has gone all the way: then a page that follows would show it."""
    while not page.request.get(f"{told['query']}/users/{user}", headers=told["bearer"]).ok:
        page.wait_for_timeout(50)


def deal_with_a_parked_record(page: Page, told: Told) -> Told:
    """Its cause, its bytes, who waits; a retry that does not help; a discard, seen before it is done."""
    said = {}
    page.goto("/parked")
    row = page.locator("tbody tr", has_text="JSON").filter(has_text=told["projection"])
    said["why"] = row.inner_text()
    row.locator("a").first.click()
    said["waits"] = page.locator("[aria-labelledby=queue]").inner_text()
    page.get_by_role("button", name="Show them").click()
    said["bytes"] = page.locator("[aria-labelledby=bytes]").inner_text()
    page.locator("summary", has_text="Retry").click()
    page.get_by_role("button", name="Retry").click()
    said["retried"] = page.locator(".notice").inner_text()
    page.locator("tbody tr", has_text="JSON").filter(has_text=told["projection"]).locator("a").first.click()
    page.get_by_role("button", name="See what a discard would do").click()
    said["preview"] = page.locator("main").inner_text()
    page.get_by_role("button", name="Discard it for good").click()
    said["discarded"] = page.locator(".notice").inner_text()
    return said


def rebuild(page: Page, told: Told) -> Told:
    """With progress and the difference; switch, roll back, retire."""
    said, name = {}, told["projection"]
    page.goto("/projections")
    section = page.locator(f"#{name}")
    section.locator("summary", has_text="Rebuild").click()
    section.get_by_role("button", name=f"Rebuild {name}").click()
    said["begun"] = page.locator(".notice").first.inner_text()
    switch = section.get_by_role("button", name="Let queries read generation")
    _see(page, told, switch)
    said["compared"] = section.locator(".notice").inner_text()
    switch.click()
    _see(page, told, section.locator("summary", has_text="Roll back"))
    said["serves"] = _serving(section)
    section.locator("summary", has_text="Roll back").click()
    section.get_by_role("button", name="Roll back").click()
    page.locator(".notice", has_text="The generation before serves again").wait_for()
    said["rolled_back"] = _serving(section)
    _retire(page, section)
    left = section.locator("table").first.locator("tbody th").all_inner_texts()
    said["left"] = " ".join(each.split()[0] for each in left)
    return said


def _retire(page: Page, section: Locator) -> None:
    """Retire the generation that stands by: not before nobody can be reading it, which the console says."""
    done, not_yet = page.locator(".notice", has_text="are gone"), page.locator("h1", has_text="cannot be done now")
    while not done.count():
        page.goto("/projections")
        section.locator("summary", has_text="Retire").first.click()
        section.get_by_role("button", name="Drop generation").first.click()
        done.or_(not_yet).wait_for()


def _serving(section: Locator) -> str:
    return str(section.locator("tbody tr", has_text="serves").locator("th").first.inner_text())


def see_who_has_not_forgotten(page: Page, told: Told) -> Told:
    """Who lags, which erasure is before whom, and its receipt by the id."""
    page.goto("/subscribers")
    said = {"headline": page.locator(".headline").inner_text(), "late": page.locator(".verdict li").all_inner_texts()}
    page.get_by_label("The id of an erased user").fill(told["erased"])
    page.get_by_role("button", name="Show the receipt").click()
    said["receipt"] = page.locator(".headline").inner_text()
    said["jws"] = page.locator("pre").inner_text()
    page.goto("/subscribers")
    page.locator("summary", has_text=f"Remove {told['removed']}").click()
    page.get_by_role("button", name=f"Remove {told['removed']}").click()
    said["removed"] = page.locator(".notice").inner_text()
    return said


def see_what_operators_did(page: Page, _: Told) -> Told:
    """All of it, page by page."""
    page.goto("/operations")
    deeds = _deeds(page)
    while (further := page.get_by_role("link", name="Further back")).count():
        with page.expect_navigation():
            further.click()
        deeds += _deeds(page)
    return {"deeds": deeds}


def _deeds(page: Page) -> list[list[str]]:
    return [[cell.inner_text() for cell in row.locator("td").all()] for row in page.locator("tbody tr").all()]


def by_keyboard_on_a_phone(page: Page, _: Told) -> Told:
    """From the first Tab to a user's page, by Tab, Enter and typing alone."""
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto("/")
    page.keyboard.press("Tab")
    skip = page.evaluate("document.activeElement.textContent")
    _enter(page, "nav a", "Users")
    _find_by_keyboard(page, "ada")
    wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    events = page.locator(".timeline h3").all_inner_texts()
    columns = {path: _columns_in_sight(page, path) for path in ("/users", "/events", "/operations")}
    return {"skip": skip, "events": events, "wide": wide, "columns": columns}


def _columns_in_sight(page: Page, path: str) -> list[str]:
    """Those of a page's table that need no scrolling to the side."""
    page.goto(path)
    shown: list[str] = page.locator("thead th").evaluate_all(
        """heads => heads.filter((each) => each.offsetWidth && each.getBoundingClientRect().right < innerWidth)
            .map((each) => each.innerText)"""
    )
    return shown


def _find_by_keyboard(page: Page, text: str) -> None:
    """To the first user who is found, and to their data in clear."""
    if not page.url.endswith("/users"):
        page.goto("/users")
    _tab_to(page, "[name=text]")
    page.keyboard.type(text)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    page.locator("h2", has_text="begin so").first.wait_for()
    _enter(page, "tbody a")
    if page.get_by_role("button", name="Show it").count():
        _enter(page, "button", "Show it")


def _enter(page: Page, selector: str, text: str = "") -> None:
    """Go to a link or button by Tab, and to the page that Enter leads to."""
    _tab_to(page, selector, text)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def _tab_to(page: Page, selector: str, text: str = "") -> None:
    """Press Tab until an element that the selector finds, and that has this text, has the focus."""
    found = """([selector, text]) => document.activeElement.matches(selector)
        && (!text || document.activeElement.textContent.trim() === text)"""
    for _ in range(_MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate(found, [selector, text]):
            return
    raise AssertionError(f"no way by keyboard to {text or selector}")


def sign_out(page: Page, _: Told) -> Told:
    page.goto("/operations")
    page.get_by_role("button", name="Sign out").click()
    page.locator("h1").wait_for()
    told = page.locator("h1").inner_text()
    page.goto("/operations")
    return {"out": told, "after": page.locator("h1").inner_text()}


def sign_in_by_a_provider(page: Page, told: Told) -> Told:
    """To the provider's page and back; what the token does not allow is refused; sign out."""
    page.goto("/sign-in")
    page.get_by_role("link", name="Sign in with").click()
    page.get_by_label("Name").fill("olga")
    page.get_by_role("button", name="No").click()
    said = {"denied": page.locator("h1").inner_text()}
    page.goto("/sign-in")
    page.screenshot(path=Path(told["folder"]) / "sign-in.png")
    axe = Path(told["axe"]).read_text(encoding="utf-8")
    wrong = examine(page, axe, every=True)
    page.reload()  # in its own words
    page.get_by_role("link", name="Sign in with").click()
    page.get_by_label("Name").fill("olga")
    page.get_by_role("button", name="Go on").click()
    page.locator("nav").wait_for()
    said["who"] = page.locator(".who bdi").inner_text()
    said["pages"] = " ".join(page.locator("nav a").all_inner_texts())
    page.goto("/users")
    said["refused"] = page.locator("main").inner_text()
    page.get_by_role("button", name="Sign out").click()
    said["out"] = page.locator("h1").inner_text()
    said["way"] = page.get_by_role("link", name="Sign out there, too").get_attribute("href") or ""
    page.screenshot(path=Path(told["folder"]) / "signed-out.png")
    return said | {"wrong": wrong + examine(page, axe, every=True)}


JOBS = (
    *(
        sign_in,
        see_that_all_is_well,
        find_and_act,
        correct_an_address,
        erase_by_keyboard,
        see_what_is_not_well,
        see_which_partition_lags,
    ),
    *(read_events, watch_events, deal_with_a_parked_record, rebuild, see_who_has_not_forgotten, see_what_operators_did),
    *(by_keyboard_on_a_phone, outwait, lose_session, sign_out, sign_in_by_a_provider),
)
