"""`make pictures`: every page of the console in every state, as a real Chromium shows it, from a stack of its own.

All go to `.local/pictures`; the overview of a stack that works, in light and dark, goes to `docs/pictures` for README.
Look at them: a test sees that a page fits, and not that it is good to look at.
"""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import httpx

from tests.acceptance.stack import Stack
from tests.browser.filling import Clients, Filled, clients, fill, park
from tests.browser.office import ROOT, Operator, open_browser, sign_in, stopped
from tests.waiting import until

FOLDER: Final = ROOT / ".local" / "pictures"
SHOWN: Final = ROOT / "docs" / "pictures"
#: More would be no picture for a page that people load first.
MOST_BYTES: Final = 150_000
PEOPLE: Final = 40
#: So that rates, percentiles and sparklines have something to show.
LOOKS: Final = 14
SECONDS: Final = 300
#: What the browser says of pages that refuse, or cannot be without a part that is stopped.
REFUSED: Final = ("status of 404", "status of 503")
PAGES: Final[Mapping[str, Sequence[str]]] = {
    "overview": ["/"],
    "users": ["/users"],
    "events": ["/events"],
    "projections": ["/projections"],
    "parked": ["/parked"],
    "subscribers": ["/subscribers"],
    "operations": ["/operations"],
}


class Photographer:
    """Takes pictures as an operator, in one state of the stack after another."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.wrong: list[str] = []

    async def take(self, when: str, ways: Mapping[str, Sequence[str]], *, first_screens: Sequence[str] = ()) -> None:
        """Take the pages at the end of these ways."""
        named = {f"{when}-{name}": way for name, way in ways.items()}
        said = await self.operator.do(
            "take_pictures", expected=REFUSED, folder=str(FOLDER), ways=named, first_screens=first_screens
        )
        self.wrong += said["wrong"]


async def main() -> int:
    """Take them all; 1 where something does not fit."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="muster-pictures-") as folder:
        stack = Stack.on(Path(folder) / ".local")
        await stack.start()
        try:
            with open_browser() as browser:
                operator = Operator(f"http://127.0.0.1:{stack.ports['console']}", browser)
                wrong = await _all_states(stack, Photographer(operator))
        finally:
            await stack.stop()
    for line in (*wrong, *_show()):
        print(line, file=sys.stderr)  # noqa: T201 - what went wrong
    print(f"{len([*FOLDER.glob('*.png')])} pictures are in {FOLDER.relative_to(ROOT)}")  # noqa: T201 - what it is for
    return 1 if wrong else 0


async def _all_states(stack: Stack, photographer: Photographer) -> list[str]:
    await photographer.take("nobody", {"sign-in": ["/sign-in"], "link": ["/sign-in/x"]})
    await sign_in(stack, photographer.operator)
    await photographer.take("empty", PAGES)
    filled = await fill(stack, PEOPLE)
    async with clients(stack) as api, _traffic(api):
        await _look_and_change(photographer, f"/users/{filled.users[3]}")
        await _looks(photographer)
        await photographer.take("full", {**PAGES, **_details(filled)}, first_screens=["full-overview"])
    await park(stack)
    [first, *_] = json.loads((await stack.muster("parked", "list", "--json"))[1])
    record = f"/parked/{first['id']}"
    parked = {"record": [record], "bytes": [record, "Show them"], "discard": [record, "See what a discard would do"]}
    await photographer.take("parked", {"overview": ["/"], "list": ["/parked"], **parked})
    async with stopped(stack, "relay", "event-api"):
        await _not_well(photographer)
        await photographer.take("failing", PAGES)
    return photographer.wrong


def _details(filled: Filled) -> dict[str, Sequence[str]]:
    return {
        "user": [f"/users/{filled.changed}"],
        "reset": [f"/users/{filled.changed}", "Make a token"],
        "found": ["/users", "Find"],
        "receipt": [f"/subscribers/receipts/{filled.erased}"],
        "missing": ["/nothing"],
    }


@asynccontextmanager
async def _traffic(api: Clients) -> AsyncIterator[None]:
    """People who register one after the other, until the block ends."""

    async def go_on() -> None:
        number = PEOPLE
        while True:
            await api.register(number)
            number += 1

    going = asyncio.create_task(go_on())
    try:
        yield
    finally:
        going.cancel()
        with suppress(asyncio.CancelledError):
            await going


async def _look_and_change(photographer: Photographer, path: str) -> None:
    """Do what operators do, so that there is a record of it."""
    async with _browser(photographer) as browser:
        page = await browser.get(path)
        token = page.text.partition('name="csrf" value="')[2].partition('"')[0]
        for deed, form in (
            ("reveal", {}),
            ("deactivate", {"reason": "asked by phone"}),
            ("reactivate", {"reason": ""}),
        ):
            (await browser.post(f"{path}/{deed}", data={"csrf": token, **form})).raise_for_status()


async def _looks(photographer: Photographer) -> None:
    """Wait until the overview has looked some times."""
    seen: set[str] = set()
    async with _browser(photographer) as browser:

        async def enough() -> bool:
            seen.add((await browser.get("/")).text)
            return len(seen) >= LOOKS

        await until(enough, within=SECONDS, what="some looks of the overview")


async def _not_well(photographer: Photographer) -> None:
    async with _browser(photographer) as browser:

        async def says() -> bool:
            return "Not well" in (await browser.get("/")).text

        await until(says, within=SECONDS, what="the overview to see it")


@asynccontextmanager
async def _browser(photographer: Photographer) -> AsyncIterator[httpx.AsyncClient]:
    cookies = {each["name"]: each["value"] for each in photographer.operator.state["cookies"]}
    async with httpx.AsyncClient(
        base_url=photographer.operator.base, cookies=cookies, timeout=60, trust_env=False, follow_redirects=True
    ) as http:
        yield http


def _show() -> list[str]:
    """Put the two of README into its folder; gives what is too large."""
    SHOWN.mkdir(parents=True, exist_ok=True)
    large = []
    for scheme in ("light", "dark"):
        picture = FOLDER / f"full-overview-1280-{scheme}-screen.png"
        if picture.stat().st_size > MOST_BYTES:
            large.append(f"{picture.name} has {picture.stat().st_size} bytes, and may have {MOST_BYTES}")
        else:
            shutil.copy(picture, SHOWN / f"console-{scheme}.png")
    return large


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
