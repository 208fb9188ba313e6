"""A browser, and an office around it, once for each module of tests."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.acceptance.stack import Stack
from tests.browser.filling import fill
from tests.browser.office import Office, Operator, lacking, open_browser, sign_in
from tests.infrastructure import throwaway_folder


@pytest.fixture(scope="session")
def browser() -> Iterator["subprocess.Popen[str]"]:
    """A real Chromium. Where there is none the tests are skipped, as the run's last line says; CI must have one."""
    if missing := lacking():
        reason = f"NOTHING WAS TRIED IN A BROWSER: there is no {missing}; `make test-browser` says why"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with open_browser() as process:
        yield process


@pytest.fixture(scope="module")
def office(browser: "subprocess.Popen[str]") -> Iterator[Office]:
    """A running stack with some people, and an operator who is signed in."""
    folder = throwaway_folder()
    stack = Stack.on(folder / ".local")
    try:
        yield asyncio.run(_open(stack, browser))
    finally:
        if stack.process is not None:
            asyncio.run(stack.stop())
        shutil.rmtree(folder)


async def _open(stack: Stack, browser: "subprocess.Popen[str]") -> Office:
    await stack.start()
    console = f"http://127.0.0.1:{stack.ports['console']}"
    office = Office(stack, await fill(stack, 15), Operator(console, browser))
    await sign_in(stack, office.operator)
    return office
