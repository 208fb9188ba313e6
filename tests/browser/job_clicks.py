"""Does one job of an operator's in a real Chromium, and prints as JSON what came of it.

Run by the browser's own environment's Python, with the job's name; its input is JSON: where the browser and the console
are, the state of a browser that is signed in, and what the job needs.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Page, sync_playwright

#: On a loaded machine.
STEP_MS = 90_000
WIDTHS = (360, 768, 1280)

Told = dict[str, Any]


def sign_in(page: Page, told: Told) -> Told:
    page.goto(told["link"])
    page.get_by_role("button", name="Sign in").click()
    page.locator(".headline").wait_for()
    return {"headline": page.locator(".headline").inner_text()}


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
    headline = page.locator(".headline", has_text=told["part"])
    headline.wait_for()
    return {"headline": headline.inner_text(), "stations": page.locator(".station.bad h3").all_inner_texts()}


def see_which_partition_lags(page: Page, told: Told) -> Told:
    page.goto("/projections")
    section = page.locator(f"#{told['projection']}")
    section.locator("summary", has_text="Partitions of generation").click()
    rows = section.locator("details table tbody tr").all()
    return {row.locator("th").inner_text(): row.locator("td").first.inner_text() for row in rows}


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
    switch.wait_for()
    said["compared"] = section.locator(".notice").inner_text()
    switch.click()
    section.locator("summary", has_text="Roll back").wait_for()
    said["serves"] = _serving(section)
    section.locator("summary", has_text="Roll back").click()
    section.get_by_role("button", name="Roll back").click()
    page.locator(".notice", has_text="The generation before serves again").wait_for()
    said["rolled_back"] = _serving(section)
    _retire(page, section)
    left = section.locator("table").first.locator("tbody th").all_inner_texts()
    said["left"] = " ".join(each.split()[0] for each in left)
    return said


def _retire(page: Page, section: Any) -> None:
    """Retire the generation that stands by: not before nobody can be reading it, which the console says."""
    done, not_yet = page.locator(".notice", has_text="are gone"), page.locator("h1", has_text="cannot be done now")
    while not done.count():
        page.goto("/projections")
        section.locator("summary", has_text="Retire").first.click()
        section.get_by_role("button", name="Drop generation").first.click()
        done.or_(not_yet).wait_for()


def _serving(section: Any) -> str:
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
    page.locator("summary", has_text="Remove data-warehouse").click()
    page.get_by_role("button", name="Remove data-warehouse").click()
    said["removed"] = page.locator(".notice").inner_text()
    return said


def see_what_operators_did(page: Page, _: Told) -> Told:
    page.goto("/operations")
    rows = page.locator("tbody tr").all()
    return {"deeds": [[cell.inner_text() for cell in row.locator("td").all()] for row in rows]}


def by_keyboard_on_a_phone(page: Page, _: Told) -> Told:
    """From the first Tab to a user's page, by Tab, Enter and typing alone."""
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto("/")
    page.keyboard.press("Tab")
    skip = page.evaluate("document.activeElement.textContent")
    _tab_to(page, "Users")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Find").wait_for()
    _tab_to(page, "", "INPUT")
    page.keyboard.type("ada")
    page.keyboard.press("Enter")
    page.locator("h2", has_text="begin so").first.wait_for()
    page.locator("tbody a").first.focus()
    page.keyboard.press("Enter")
    page.locator(".timeline").wait_for()
    wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    return {"skip": skip, "events": page.locator(".timeline h3").all_inner_texts(), "wide": wide}


def _tab_to(page: Page, text: str, tag: str = "A") -> None:
    """Press Tab until the element that has this text, or is of this kind, has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        found = page.evaluate("[document.activeElement.tagName, document.activeElement.textContent.trim()]")
        if found[0] == tag and (not text or found[1] == text):
            return
    raise AssertionError(f"no way by keyboard to {text or tag}")


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
    return said


def look(page: Page, told: Told) -> Told:
    """Every page, at each width, in light and dark: whether it fits, and what axe finds."""
    axe, wrong = Path(told["axe"]).read_text(encoding="utf-8"), []
    for path in told["paths"]:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                page.goto(path)
                page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
                if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                    wrong.append(f"{path} is wider than {width} pixels")
                page.evaluate(axe)
                found = page.evaluate("axe.run()")["violations"]
                wrong += [f"{path} {width} {scheme}: {each['id']}: {each['help']}" for each in found]
    return {"wrong": wrong}


JOBS: dict[str, Callable[[Page, Told], Told]] = {
    job.__name__: job
    for job in (
        *(sign_in, correct_an_address, see_what_is_not_well, see_which_partition_lags, watch_events),
        *(deal_with_a_parked_record, rebuild, see_who_has_not_forgotten, see_what_operators_did),
        *(by_keyboard_on_a_phone, sign_out, sign_in_by_a_provider, look),
    )
}


def complain(context: BrowserContext, complaints: list[str]) -> None:
    """Note what the browser's console says of errors, refused scripts and styles among them."""
    context.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("dialog", lambda _: complaints.append("a script ran"))


def main(job: str) -> None:
    told: Told = json.load(sys.stdin)
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=told["chromium"], args=["--no-sandbox"])
        # axe is a script within the page, which the page's policy would refuse.
        context = browser.new_context(storage_state=told["state"], base_url=told["base"], bypass_csp=job == "look")
        context.set_default_timeout(STEP_MS)
        complain(context, complaints)
        said = JOBS[job](context.new_page(), told)
        state = context.storage_state()
        browser.close()
    json.dump({"said": said, "state": state, "complaints": complaints}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
