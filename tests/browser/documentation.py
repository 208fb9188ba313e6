"""The documentation in a real browser: it loads under its own policy, Authorize takes a token, Try it out works.

`make test-browser` runs it, with a browser in an environment of its own; CHROMIUM names another one.
"""

import asyncio
import json
import os
from pathlib import Path

from tests.acceptance.stack import Stack

ENVIRONMENT = Path(__file__).parents[2] / ".venv" / "browser"
CLICKS = Path(__file__).with_name("clicks.py")
CLICK_SECONDS = 300


async def test_a_person_authorizes_and_tries_both_apis_out_and_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    stack = Stack.on(tmp_path / ".local")
    chromium = os.environ.get("CHROMIUM") or str(ENVIRONMENT / "chromium")
    await stack.start()
    try:
        clicking = await asyncio.create_subprocess_exec(
            *(ENVIRONMENT / "bin" / "python", CLICKS, chromium, stack.command_url, stack.query_url),
            *(stack.bearer["Authorization"].removeprefix("Bearer "), tmp_path),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await asyncio.wait_for(clicking.communicate(), CLICK_SECONDS)
    finally:
        await stack.stop()

    assert clicking.returncode == 0
    seen = json.loads(said)
    assert (seen["registered"], seen["listed"]) == ("201", "200")
    assert seen["complaints"] == []
    assert {f"http://{host}" for host in seen["asked"]} == {stack.command_url, stack.query_url}
