"""Uses the documentation of both APIs, as a person would."""

import json
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from playwright.sync_api import Locator, Page

Told = dict[str, Any]


def try_the_documentation(page: Page, told: Told) -> Told:
    """Register a user, look for users, and leaf through the rest; tells whom the browser has asked for anything."""
    asked: set[str] = set()
    page.context.on("request", lambda request: asked.add(urlsplit(request.url.removeprefix("blob:")).netloc))
    page.set_viewport_size({"width": 1200, "height": 1000})
    name = f"user-{uuid4().hex[:16]}"
    body = {"email": f"{name}@example.com", "username": name, "password": "correct horse"}
    _authorize(page, told["command"], told["token"])
    register = _operation(page, "register_user")
    register.locator("textarea").fill(json.dumps(body))
    registered = _execute(page, register)
    _authorize(page, told["query"], told["token"])
    listed = _execute(page, _operation(page, "listUsers"))
    for address in (told["command"], told["query"]):
        page.goto(f"{address}/redoc")
        page.fill("[role=search] input", "user")
        page.locator("[role=search] [role=menuitem]").first.click()
        page.goto(f"{address}/problems/")
        page.click("a")
    return {"registered": registered, "listed": listed, "asked": sorted(asked)}


def _authorize(page: Page, address: str, token: str) -> None:
    page.goto(f"{address}/docs", wait_until="networkidle")
    page.click("button.authorize")
    page.fill(".modal-ux input", token)
    page.click(".modal-ux button[type=submit]")
    page.click(".modal-ux .btn-done")


def _operation(page: Page, name: str) -> Locator:
    """An operation, opened and ready to be filled in."""
    found = page.locator(f"[id$={name}]")
    found.locator(".opblock-summary-control").click()
    found.locator(".try-out__btn").click()
    return found


def _execute(page: Page, operation: Locator) -> str:
    """The status that is shown for the answer."""
    with page.expect_response(lambda answer: "openapi.json" not in answer.url) as caught:
        operation.locator(".execute").click()
    status = str(caught.value.status)
    operation.locator(".live-responses-table .response-col_status", has_text=status).first.wait_for()
    return status


JOBS = (try_the_documentation,)
