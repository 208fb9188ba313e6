"""A stack with people in it, and an operator at a real browser, which an environment of its own drives."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from tests.acceptance.stack import Stack
from tests.browser.filling import Filled

ROOT: Final = Path(__file__).parents[2]
ENVIRONMENT: Final = ROOT / ".venv" / "browser"
PYTHON: Final = ENVIRONMENT / "bin" / "python"
AXE: Final = ENVIRONMENT / "node_modules" / "axe-core" / "axe.min.js"
#: A test fails in time to say which job it was.
JOB_SECONDS: Final = 300
CLOSE_SECONDS: Final = 60


def chromium() -> Path:
    """The browser: yours, or what `make .venv/browser/chromium` has found or fetched."""
    return Path(os.environ.get("CHROMIUM") or ENVIRONMENT / "chromium")


def lacking() -> str:
    """What a browser lacks here; nothing where there is one."""
    return ", ".join(str(path) for path in (PYTHON, chromium(), AXE) if not path.exists())


@dataclass
class Operator:
    """Somebody at a browser, and what the browser remembers."""

    base: str
    browser: "subprocess.Popen[str]"
    state: Any = None

    async def do(
        self, job: str, *, expected: tuple[str, ...] = (), scripts: bool = True, **told: Any
    ) -> dict[str, Any]:
        """Do a job; whatever the browser complains of beside what is expected is a failure."""
        given = {"job": job, "base": self.base, "state": self.state, "scripts": scripts, **told}
        seen = json.loads(await self._ask(json.dumps(given)))
        assert "failure" not in seen, f"{job}: {seen['failure']}"
        self.state = seen["state"]
        assert [each for each in seen["complaints"] if not any(part in each for part in expected)] == [], job
        found: dict[str, Any] = seen["said"]
        return found

    async def _ask(self, line: str) -> str:
        assert self.browser.stdin is not None
        assert self.browser.stdout is not None
        self.browser.stdin.write(f"{line}\n")
        self.browser.stdin.flush()
        try:
            return await asyncio.wait_for(asyncio.to_thread(self.browser.stdout.readline), JOB_SECONDS)
        except TimeoutError:
            self.browser.kill()  # which ends the thread that reads
            raise


@contextmanager
def open_browser() -> Iterator["subprocess.Popen[str]"]:
    """A browser, open until the block ends."""
    with subprocess.Popen(
        [PYTHON, "-m", "tests.browser.clicking", chromium()],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            _close(process)


def _close(process: "subprocess.Popen[str]") -> None:
    """Have it end when it has no more to do, or else end it: one that hangs must not hold up whoever is through."""
    if process.poll() is not None or process.stdin is None:
        return
    process.stdin.close()
    try:
        process.wait(CLOSE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


async def sign_in(stack: Stack, operator: Operator, *, scripts: bool = True) -> None:
    """By another link."""
    _, link, error = await stack.muster("console", "link")
    assert link, error
    await operator.do("sign_in", link=link.strip(), scripts=scripts)


@asynccontextmanager
async def stopped(stack: Stack, *names: str) -> AsyncIterator[None]:
    """Have these processes hang until the block ends."""
    processes = [psutil.Process(stack.pid(name)) for name in names]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


@dataclass
class Office:
    """A stack, its people, and an operator who is signed in."""

    stack: Stack
    filled: Filled
    operator: Operator

    @property
    def apis(self) -> dict[str, Any]:
        """Where the APIs are, and what opens them."""
        return {"command": self.stack.command_url, "query": self.stack.query_url, "bearer": self.stack.bearer}
