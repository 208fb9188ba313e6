"""Uses the documentation of both APIs in a real Chromium, as a person would, and prints as JSON what came of it.

Run by its own environment's Python: EXECUTABLE, both APIs' addresses, a token and a folder for pictures.
"""

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from playwright.sync_api import Browser, Locator, Page, sync_playwright

#: On a loaded machine.
STEP_MS = 60_000


class Reader:
    """One page, and whatever went wrong on it."""

    def __init__(self, browser: Browser, address: str, seen: dict[str, list[str]]) -> None:
        self._seen = seen
        self.page: Page = browser.new_page(viewport={"width": 1200, "height": 1000})
        self.page.set_default_timeout(STEP_MS)
        self.page.on("console", lambda said: self.complain(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complain(str(error)))
        self.page.on("requestfailed", lambda asked: self.complain(f"{asked.url} failed"))
        self.page.on("request", lambda asked: seen["asked"].append(urlsplit(asked.url.removeprefix("blob:")).netloc))
        self.page.goto(address, wait_until="networkidle")

    def complain(self, what: str) -> None:
        self._seen["complaints"].append(f"{self.page.url}: {what}")

    def authorize(self, token: str) -> None:
        self.page.click("button.authorize")
        self.page.fill(".modal-ux input", token)
        self.page.click(".modal-ux button[type=submit]")
        self.page.click(".modal-ux .btn-done")

    def operation(self, name: str) -> Locator:
        """An operation, opened and ready to be filled in."""
        found = self.page.locator(f"[id$={name}]")
        found.locator(".opblock-summary-control").click()
        found.locator(".try-out__btn").click()
        return found

    def execute(self, operation: Locator) -> str:
        """The status that is shown for the answer."""
        with self.page.expect_response(lambda answer: "openapi.json" not in answer.url) as caught:
            operation.locator(".execute").click()
        status = str(caught.value.status)
        operation.locator(".live-responses-table .response-col_status", has_text=status).first.wait_for()
        return status


def main(executable: str, command: str, query: str, token: str, folder: str) -> dict[str, Any]:
    """Register a user, look for users, and leaf through the rest."""
    seen: dict[str, list[str]] = {"complaints": [], "asked": []}
    pictures = Path(folder)
    name = f"user-{uuid4().hex[:16]}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        commands, queries = Reader(browser, f"{command}/docs", seen), Reader(browser, f"{query}/docs", seen)
        commands.authorize(token)
        register = commands.operation("register_user")
        body = {"email": f"{name}@example.com", "username": name, "password": "correct horse"}
        register.locator("textarea").fill(json.dumps(body))
        registered = commands.execute(register)
        queries.authorize(token)
        listed = queries.execute(queries.operation("listUsers"))
        for page, file in ((commands.page, "commands"), (queries.page, "queries")):
            page.screenshot(path=pictures / f"{file}.png")
        for address in (command, query):
            redoc = Reader(browser, f"{address}/redoc", seen).page
            redoc.fill("[role=search] input", "user")
            redoc.locator("[role=search] [role=menuitem]").first.click()
            redoc.screenshot(path=pictures / f"redoc-{urlsplit(address).port}.png")
            problems = Reader(browser, f"{address}/", seen).page
            problems.goto(f"{address}/problems/")
            problems.click("a")
        browser.close()
    return {"registered": registered, "listed": listed, **seen}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
