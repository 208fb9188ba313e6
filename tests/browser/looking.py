"""Looks at pages in a real Chromium: whether they fit, what axe finds, and whether a text is still a text.

A way to a page is a list: its path, and the buttons and links to press there, or what to type under which label.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Page

Told = dict[str, Any]
Way = Sequence[str | Sequence[str]]
WIDTHS: Final = (360, 768, 1280)
SCHEMES: Final = ("light", "dark")
#: On a phone and on a desk; with `every`, in each width and scheme.
_AXE_LOOKS: Final = ((360, "light"), (1280, "dark"))
#: Of pictures: a desk and a phone.
_SCREENS: Final = {1280: 800, 360: 740}
#: Of a height that shows most of a page.
_HEIGHT: Final = 900

#: What is wider than the page, or cut off within it.
_TOO_WIDE: Final = """() => {
    const wide = (each) => each.scrollWidth > each.clientWidth + 1;
    const boxes = "header, section, form, summary, button, .badge, .station, .notice, dd, pre";
    const all = [document.documentElement, ...document.querySelectorAll(boxes)];
    return all.filter((each) => each.clientWidth && wide(each)).map(
        (each) => `${each.tagName}.${each.className}: ${each.textContent.trim().slice(0, 40)}`);
}"""
#: A text of somebody's in a box that its marks could leave, to cover what others wrote.
_UNBOUND: Final = """() => [...document.querySelectorAll("main bdi")].filter((each) => {
    let box = each;
    while (getComputedStyle(box).display === "inline") box = box.parentElement;
    return getComputedStyle(box).overflowY === "visible";
}).map((each) => `not bound: ${each.parentElement.outerHTML.slice(0, 80)}`)"""
#: German says the same in words that are two fifths longer.
_LENGTHEN: Final = r"""() => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const longer = (word) => word + word.slice(0, Math.ceil(word.length * 0.4)).toLowerCase();
        walker.currentNode.data = walker.currentNode.data.replace(/\p{L}{4,}/gu, longer);
    }
}"""
#: Elements that no page of ours has, or none within its content.
_FOREIGN: Final = """() => [...document.querySelectorAll(
    "main :is(script, style, img, iframe, frame, object, embed, video, audio, link, meta, base, math, template), " +
    "[onload], [onerror], [onclick], [onmouseover], [onfocus], [style], a[href^='javascript:' i]"
)].map((each) => each.outerHTML)"""
_TEXTS: Final = "() => [...document.querySelectorAll('bdi')].map((each) => each.textContent)"
_OPEN: Final = "document.querySelectorAll('details').forEach((each) => { each.open = true; })"


def look(page: Page, told: Told) -> Told:
    """A page in each width, in light and dark and in longer words: whether it fits, and what axe finds.

    It is looked at once it shows what is told, be that by itself.
    """
    page.set_viewport_size({"width": WIDTHS[-1], "height": _HEIGHT})
    go(page, told["way"])
    page.locator(told["showing"]).first.wait_for()
    found = examine(page, Path(told["axe"]).read_text(encoding="utf-8"), every=told["every"])
    return {"wrong": [f"{' > '.join(map(str, told['way']))}: {each}" for each in found]}


def examine(page: Page, axe: str, *, every: bool) -> list[str]:
    """What is wrong with the page that is shown."""
    page.evaluate(_OPEN)
    page.evaluate(axe)
    wrong: list[str] = page.evaluate(_UNBOUND)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": _HEIGHT})
        wrong += [f"{width}: {each}" for each in page.evaluate(_TOO_WIDE)]
        for scheme in SCHEMES:
            if every or (width, scheme) in _AXE_LOOKS:
                page.emulate_media(color_scheme=scheme)
                found = page.evaluate("axe.run()")["violations"]
                wrong += [f"{width} {scheme}: {_of(each)}" for each in found]
    page.evaluate(_LENGTHEN)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": _HEIGHT})
        wrong += [f"{width}, in longer words: {each}" for each in page.evaluate(_TOO_WIDE)]
    return wrong


def _of(violation: Told) -> str:
    return f"{violation['id']}: {violation['help']}: {[each['html'][:80] for each in violation['nodes'][:3]]}"


def go(page: Page, way: Way) -> None:
    """Go there."""
    path, *steps = way
    page.goto(str(path))
    for step in steps:
        page.evaluate(_OPEN)
        if isinstance(step, str):
            with page.expect_navigation():
                named: Any = {"name": step, "exact": True}
                page.get_by_role("button", **named).or_(page.get_by_role("link", **named)).first.click()
        else:
            label, text = step
            page.get_by_label(label).fill(text)


def read(page: Page, told: Told) -> Told:
    """The texts of people and of records, one list for each way to a page, and elements that are not ours."""
    texts, foreign = [], []
    for way in told["ways"]:
        go(page, way)
        texts.append(page.evaluate(_TEXTS))
        foreign += page.evaluate(_FOREIGN)
    return {"texts": texts, "foreign": foreign}


def leaf_through_users(page: Page, _: Told) -> Told:
    """The same of the list of users, all of it, shown in clear."""
    texts, foreign = [], []
    page.goto("/users")
    while True:
        if (show := page.get_by_role("button", name="Show it")).count():
            with page.expect_navigation():
                show.click()
        texts += page.evaluate(_TEXTS)
        foreign += page.evaluate(_FOREIGN)
        if not (further := page.get_by_role("link", name="Further on")).count():
            return {"texts": texts, "foreign": foreign}
        with page.expect_navigation():
            further.click()


def search_for(page: Page, told: Told) -> Told:
    """The texts that the search box holds after each search, and elements that are not ours."""
    held, foreign = [], []
    page.goto("/users")
    for text in told["strings"]:
        page.locator("input[name=text]").fill(text)
        with page.expect_navigation():
            page.get_by_role("button", name="Find").click()
        held.append(page.locator("input[name=text]").input_value())
        foreign += page.evaluate(_FOREIGN)
    return {"texts": held, "foreign": foreign}


def take_pictures(page: Page, told: Told) -> Told:
    """Each page by its name, on a desk and on a phone, light and dark; of some the first screen alone as well."""
    folder, wrong = Path(told["folder"]), []
    for name, way in told["ways"].items():
        go(page, way)
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            for width, height in _SCREENS.items():
                page.set_viewport_size({"width": width, "height": height})
                wrong += [f"{name} {width}: {each}" for each in page.evaluate(_TOO_WIDE)]
                page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)
                if name in told["first_screens"]:
                    page.screenshot(path=folder / f"{name}-{width}-{scheme}-screen.png")
    return {"wrong": wrong}


JOBS = (look, read, leaf_through_users, search_for, take_pictures)
