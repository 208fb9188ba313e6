"""Uses the console in a real Chromium, as operators would, and prints as JSON what came of it.

Run by its own environment's Python: EXECUTABLE, the path of axe-core, a link to sign in, the name of a user who has
naughty strings in every field, and a folder for pictures.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

#: On a loaded machine.
STEP_MS = 60_000
WIDTHS = (360, 768, 1280)
SCHEMES = ("light", "dark")
WELL = "() => document.querySelector('.headline').innerText === 'All is well'"


class Operator:
    """Somebody at a browser, and whatever goes wrong there."""

    def __init__(self, browser: Browser, link: str, pictures: Path) -> None:
        self.browser, self.link, self.pictures = browser, link, pictures
        self.base = link.partition("/sign-in/")[0]
        self.complaints: list[str] = []
        self.violations: list[str] = []
        self.state: Any = None

    @contextmanager
    def at(self, **how: Any) -> Iterator[Page]:
        """A page of this operator's, signed in where they are."""
        context: BrowserContext = self.browser.new_context(storage_state=self.state, **how)
        page = context.new_page()
        page.set_default_timeout(STEP_MS)
        page.on("console", lambda said: self.complain(page, said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complain(page, str(error)))
        page.on("dialog", lambda _: self.complain(page, "a script ran"))
        yield page
        self.state = context.storage_state()
        context.close()

    def complain(self, page: Page, what: str) -> None:
        self.complaints.append(f"{page.url}: {what}")

    def look(self, name: str, path: str, axe: str) -> None:
        """One page in every width and scheme: a picture, whether it fits, and what axe finds."""
        for scheme in SCHEMES:
            for width in WIDTHS:
                with self.at(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True) as page:
                    page.goto(f"{self.base}{path}")
                    for summary in page.locator(".deeds summary").all():
                        summary.click()
                    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                        self.complain(page, f"is wider than {width} pixels")
                    page.screenshot(path=self.pictures / f"{name}-{width}-{scheme}.png", full_page=True)
                    if width == WIDTHS[0] or width == WIDTHS[-1]:
                        page.evaluate(axe)
                        found = page.evaluate("axe.run()")["violations"]
                        self.violations += [f"{name} {width} {scheme}: {each['id']}: {each['help']}" for each in found]


def sign_in(operator: Operator) -> str:
    """Spend the link; gives the headline of the overview, once it is live."""
    with operator.at() as page:
        page.goto(operator.link)
        page.get_by_role("button", name="Sign in").click()
        first = page.locator(".verdict .aside").inner_text()
        page.wait_for_function("before => document.querySelector('.verdict .aside').innerText !== before", arg=first)
        return str(page.locator(".headline").inner_text())


def lose_session(operator: Operator) -> dict[str, str]:
    """Sign out beside an open overview; gives what that says then, and where it leads."""
    with operator.at() as page:
        page.goto(operator.base)
        page.wait_for_function(WELL)
        other = page.context.new_page()
        other.goto(f"{operator.base}/operations")
        other.get_by_role("button", name="Sign out").click()
        page.locator("#stale").wait_for()
        return {
            "words": page.locator("#stale-words").inner_text(),
            "way": str(page.locator("#stale-way").get_attribute("href")),
            "headline": page.locator(".headline").inner_text(),
            "states": " ".join(sorted(set(page.locator(".station .badge").all_inner_texts()))),
        }


def outwait(operator: Operator) -> dict[str, str]:
    """Let half a minute pass on an open overview, to which nothing comes; gives what it says then.

    Once something has come it is as it was.
    """
    with operator.at() as page:
        page.clock.install()
        page.goto(operator.base)
        page.wait_for_function(WELL)
        page.clock.fast_forward(30_000)
        page.locator("#stale").wait_for()
        said = {"words": page.locator("#stale-words").inner_text(), "headline": page.locator(".headline").inner_text()}
        page.wait_for_function(WELL)
        page.locator("#stale").wait_for(state="hidden")
        return said


def find(page: Page, base: str, text: str) -> str:
    """Search for a user, and give the path of the first who is found."""
    page.goto(f"{base}/users")
    page.get_by_label("An id, or the beginning of a username or an address").fill(text)
    page.get_by_role("button", name="Find").click()
    return str(page.locator("tbody a").first.get_attribute("href"))


def act(operator: Operator, name: str, *, scripts: bool) -> dict[str, str]:
    """Find somebody, look at them, deactivate and reactivate them, make a token; gives what the pages say."""
    said = {}
    with operator.at(java_script_enabled=scripts) as page:
        page.goto(f"{operator.base}{find(page, operator.base, name)}")
        said["masked"] = page.locator("h1").inner_text()
        if page.get_by_role("button", name="Show it").count():  # once a session
            page.get_by_role("button", name="Show it").click()
        said["clear"] = page.locator("h1 bdi").inner_text()
        said["document"] = page.locator("dl.document").inner_text()
        for summary, button in (
            ("Deactivate", "Deactivate this user"),
            ("Reactivate", "Make this user active again"),
        ):
            page.locator("summary", has_text=summary).click()
            page.get_by_role("button", name=button).click()
            said[summary] = page.locator(".notice").inner_text()
        page.locator("summary", has_text="Reset the password").click()
        page.get_by_role("button", name="Make a token").click()
        said["token"] = page.locator("pre").inner_text()
    return said


def erase_by_keyboard(operator: Operator, name: str) -> str:
    """Do it all without a mouse: move by Tab, act by Enter."""
    with operator.at() as page:
        page.goto(f"{operator.base}{find(page, operator.base, name)}")
        if page.get_by_role("button", name="Show it").count():
            page.get_by_role("button", name="Show it").press("Enter")
        page.locator("summary", has_text="Erase").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.type(name)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        return str(page.locator("h1").inner_text())


def main(executable: str, axe_path: str, link: str, name: str, folder: str) -> dict[str, Any]:
    """Go through everything that there is."""
    axe = Path(axe_path).read_text(encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        operator = Operator(browser, link, Path(folder))
        headline = sign_in(operator)
        with_scripts, without = act(operator, name, scripts=True), act(operator, name, scripts=False)
        with operator.at() as page:
            user = find(page, operator.base, name)
        for place, path in (("overview", "/"), ("users", "/users"), ("user", user), ("operations", "/operations")):
            operator.look(place, path, axe)
        operator.look("missing", "/nothing", axe)
        expected = [each for each in operator.complaints if "404" in each]
        erased = erase_by_keyboard(operator, name)
        outwaited, signed_out = outwait(operator), lose_session(operator)
        browser.close()
    complaints = [each for each in operator.complaints if each not in expected]
    return {
        "headline": headline,
        "scripts": with_scripts,
        "no_scripts": without,
        "erased": erased,
        "outwaited": outwaited,
        "signed_out": signed_out,
        "complaints": complaints,
        "violations": operator.violations,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
