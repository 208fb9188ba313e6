"""The console in a real browser: with scripts and without, by keyboard, narrow and wide, in light and dark.

`make test-browser` runs it, with a browser in an environment of its own; CHROMIUM names another one. Its pictures are
in the folder of the test.
"""

import asyncio
import json
import os
from pathlib import Path

import httpx

from tests.acceptance.stack import Stack
from tests.waiting import until

ENVIRONMENT = Path(__file__).parents[2] / ".venv" / "browser"
CLICKS = Path(__file__).with_name("console_clicks.py")
AXE = ENVIRONMENT / "node_modules" / "axe-core" / "axe.min.js"
CLICK_SECONDS = 600
NAUGHTY = "<img src=x onerror=alert(1)>\"'&{{7*7}}<script>alert(2)</script>"
#: As wide as a name may be.
NAME = "Ŵ" * 50


async def test_operators_get_their_work_done_whatever_browser_they_have(tmp_path: Path) -> None:
    stack = Stack.on(tmp_path / ".local")
    chromium = os.environ.get("CHROMIUM") or str(ENVIRONMENT / "chromium")
    await stack.start()
    try:
        await _register(stack)
        code, link, _ = await stack.muster("console", "link")
        assert code == 0
        clicking = await asyncio.create_subprocess_exec(
            *(ENVIRONMENT / "bin" / "python", CLICKS, chromium, AXE, link.strip(), NAME, tmp_path),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await asyncio.wait_for(clicking.communicate(), CLICK_SECONDS)
    finally:
        await stack.stop()

    assert clicking.returncode == 0
    seen = json.loads(said)
    assert seen["headline"] == "All is well"
    for way in ("scripts", "no_scripts"):
        assert seen[way]["clear"] == NAME
        assert seen[way]["Deactivate"] == "The user is deactivated."
        assert seen[way]["Reactivate"] == "The user is active again."
        assert len(seen[way]["token"]) == 43
        assert NAUGHTY in seen[way]["document"]
    assert NAME not in seen["scripts"]["masked"]
    assert seen["erased"] == "Erased"
    assert seen["outwaited"]["headline"] == seen["signed_out"]["headline"] == "Not known any more"
    assert "nothing has come from the console for" in seen["outwaited"]["words"]
    assert "not signed in any more" in seen["signed_out"]["words"]
    assert seen["signed_out"]["way"] == "/sign-in"
    assert seen["signed_out"]["states"] == "not known"
    assert seen["complaints"] == []
    assert seen["violations"] == []


async def _register(stack: Stack) -> None:
    """A user whose every field a careless page would take apart."""
    body = {
        "email": "naughty@example.com",
        "username": NAME,
        "password": "correct horse",
        "display_name": NAUGHTY,
        "attributes": {NAUGHTY: [NAUGHTY]},
    }
    async with httpx.AsyncClient(headers=stack.bearer, timeout=60) as http:
        user = (await http.post(f"{stack.command_url}/users", json=body)).raise_for_status().json()

        async def visible() -> bool:
            return (await http.get(f"{stack.query_url}/users/{user['id']}")).status_code == 200

        await until(visible, within=60, what="the user on the read side")
