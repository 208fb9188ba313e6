"""Takes pictures of pages with a real Chromium: light and dark, on a desk and on a phone.

Run by the browser's own environment's Python. It is told as JSON on its input where the browser is, a link to sign in
or the state of an earlier run, the folder, and the pages by name.
"""

import json
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

STEP_MS = 60_000
SCHEMES = ("light", "dark")
SIZES = {1280: 800, 360: 740}


def take(browser: Browser, told: dict[str, Any], state: Any) -> list[str]:
    """Every page in every size and scheme; gives what went wrong."""
    wrong = []
    for scheme in SCHEMES:
        for width, height in SIZES.items():
            how: dict[str, Any] = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
            context = browser.new_context(storage_state=state, **how)
            page = context.new_page()
            page.set_default_timeout(STEP_MS)
            for name, path in told["pages"].items():
                page.goto(path if path.startswith("http") else told["base"] + path)
                if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                    wrong.append(f"{name} is wider than {width} pixels in {scheme}")
                page.screenshot(path=Path(told["folder"]) / f"{name}-{width}-{scheme}.png", full_page=True)
                if name in told.get("first_screens", ()):
                    page.screenshot(path=Path(told["folder"]) / f"{name}-{width}-{scheme}-screen.png")
            context.close()
    return wrong


def sign_in(browser: Browser, link: str) -> Any:
    """Spend the link; gives the state of a browser that is signed in."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(STEP_MS)
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_load_state()
    state = context.storage_state()
    context.close()
    return state


def main() -> None:
    told = json.load(sys.stdin)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=told["chromium"], args=["--no-sandbox"])
        state = told.get("state") or (sign_in(browser, told["link"]) if told.get("link") else None)
        wrong = take(browser, told, state)
        browser.close()
    json.dump({"state": state, "wrong": wrong}, sys.stdout)


if __name__ == "__main__":
    main()
