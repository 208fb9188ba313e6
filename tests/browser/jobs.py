"""What operators do in the console, each job in a real Chromium against a whole stack, parts of which stop for some.

`make test-browser` runs it, with a browser in an environment of its own; CHROMIUM names another one. Finding a user,
deactivating, resetting, erasing, and all without scripts are in `console.py`.
"""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.stack import Stack
from tests.browser.filling import Clients, Filled, clients, fill, park
from tests.infrastructure import throwaway_folder

ENVIRONMENT = Path(__file__).parents[2] / ".venv" / "browser"
CLICKS = Path(__file__).with_name("job_clicks.py")
AXE = ENVIRONMENT / "node_modules" / "axe-core" / "axe.min.js"
JOB_SECONDS = 600


@dataclass
class Operator:
    """Somebody at a browser, and what the browser remembers."""

    base: str
    state: Any = None

    async def do(self, job: str, *, expected: tuple[str, ...] = (), **told: Any) -> dict[str, Any]:
        """Do a job; whatever the browser complains of beside what is expected is a failure."""
        given = {
            "chromium": os.environ.get("CHROMIUM") or str(ENVIRONMENT / "chromium"),
            "base": self.base,
            "state": self.state,
            **told,
        }
        clicking = await asyncio.create_subprocess_exec(
            *(ENVIRONMENT / "bin" / "python", CLICKS, job),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await asyncio.wait_for(clicking.communicate(json.dumps(given).encode()), JOB_SECONDS)
        assert clicking.returncode == 0, job
        seen = json.loads(said)
        self.state = seen["state"]
        assert [each for each in seen["complaints"] if not any(part in each for part in expected)] == []
        found: dict[str, Any] = seen["said"]
        return found


@dataclass
class Office:
    """A stack, its people, and an operator who is signed in."""

    stack: Stack
    filled: Filled
    operator: Operator

    async def sign_in(self) -> dict[str, Any]:
        """By another link."""
        _, link, error = await self.stack.muster("console", "link")
        assert link, error
        return await self.operator.do("sign_in", link=link.strip())

    @asynccontextmanager
    async def stopped(self, name: str) -> AsyncIterator[None]:
        """Have a process hang until the block ends."""
        process = psutil.Process(self.stack.pid(name))
        process.suspend()
        try:
            yield
        finally:
            process.resume()

    @property
    def apis(self) -> dict[str, Any]:
        """Where the APIs are, and what opens them."""
        return {"command": self.stack.command_url, "query": self.stack.query_url, "bearer": self.stack.bearer}


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    folder = throwaway_folder()
    stack = Stack.on(folder / ".local")
    try:
        yield asyncio.run(_open(stack))
    finally:
        if stack.process is not None:
            asyncio.run(stack.stop())
        shutil.rmtree(folder)


async def _open(stack: Stack) -> Office:
    await stack.start()
    office = Office(stack, await fill(stack, 15), Operator(f"http://127.0.0.1:{stack.ports['console']}"))
    await office.sign_in()
    return office


async def test_is_all_well(office: Office) -> None:
    assert (await office.sign_in())["headline"] == "All is well"


async def test_an_address_is_corrected_and_the_event_is_seen_to_travel(office: Office) -> None:
    said = await office.operator.do(
        "correct_an_address", user=office.filled.changed, email="ada@right.example.com", kind="Address changed"
    )

    assert said["notice"] == "The address is changed."
    assert "Address changed" in said["newest"]
    assert "by operator" in said["newest"]
    assert "on Kafka after" in said["newest"]
    assert "in the read table" in said["newest"]
    assert "ada@right" not in said["newest"], "it is masked until somebody asks for it"


async def test_that_the_relay_fails_is_seen_and_why(office: Office) -> None:
    async with office.stopped("relay"):
        said = await office.operator.do("see_what_is_not_well", part="Relay")

    assert said["headline"].startswith("Not well: Relay, none leads")
    assert "Relay" in said["stations"]


async def test_which_partition_lags_is_seen(office: Office) -> None:
    async with office.stopped("projectors"), clients(office.stack) as api:
        await _register(api, 8)
        said = await office.operator.do("see_which_partition_lags", projection="users")

    assert len(said) == 12
    assert sum(map(int, said.values())) >= 8


async def _register(api: Clients, number: int) -> None:
    """Some people more, whose events are on Kafka."""
    before = await api.position()
    for each in range(100, 100 + number):
        await api.register(each)
    answer = await api.http.get(
        f"{api.events_url}/events",
        params={"after": before, "limit": number},
        headers={"Accept": "application/json", "Prefer": "wait=30"},
    )
    assert answer.json()["data"]


async def test_events_are_watched_live_filtered_and_paused(office: Office) -> None:
    said = await office.operator.do("watch_events", **office.apis)

    assert said["paused"].startswith("Paused")
    assert said["still"] == said["first"], "nothing moves while it is paused"
    assert said["kinds"] == ["Registered"]


async def test_a_parked_record_is_looked_at_retried_and_discarded(office: Office) -> None:
    await park(office.stack)
    said = await office.operator.do("deal_with_a_parked_record", projection="signups")

    assert "no muster.user.registered.v1" in said["why"]
    assert "1 of the same user waits behind it" in said["waits"]
    assert "<script>alert(1)</script>" in said["bytes"]
    assert "0 applied, 0 discarded" in said["retried"]
    assert "Nothing has been done yet" in said["preview"]
    assert "1 discarded" in said["discarded"]


async def test_a_projection_is_rebuilt_switched_rolled_back_and_retired(office: Office) -> None:
    said = await office.operator.do("rebuild", projection="timeline", expected=("status of 409",))

    assert said["begun"] == "The rebuild has begun. It goes on without this page."
    assert "Generation 2 has caught up" in said["compared"]
    assert said["serves"].startswith("2")
    assert said["rolled_back"].startswith("1")
    assert said["left"] == "1"


async def test_who_lags_and_who_has_not_forgotten_an_erased_person_is_seen(office: Office) -> None:
    said = await office.operator.do("see_who_has_not_forgotten", erased=office.filled.erased)

    assert said["headline"] == "1 erased person is not forgotten by everybody"
    assert any(each.startswith("mailer") for each in said["late"])
    assert not any(each.startswith("search-index") for each in said["late"])
    assert said["receipt"] == "Not read by data-warehouse, mailer"
    assert said["jws"].count(".") == 2
    assert said["removed"] == "Receipts do not name it any more."


async def test_it_works_on_a_phone_and_by_keyboard_alone(office: Office) -> None:
    said = await office.operator.do("by_keyboard_on_a_phone")

    assert said["skip"] == "To the content"
    assert any("Registered" in each for each in said["events"])
    assert not said["wide"]


async def test_no_page_is_too_wide_or_hard_to_use_for_anybody(office: Office) -> None:
    paths = ["/", "/users", "/events", "/projections", "/parked", "/subscribers", "/operations", "/sign-in"]
    receipt = f"/subscribers/receipts/{office.filled.erased}"
    said = await office.operator.do("look", axe=str(AXE), paths=[*paths, receipt, f"/users/{office.filled.changed}"])

    assert said["wrong"] == []


async def test_what_operators_did_is_seen(office: Office) -> None:
    said = await office.operator.do("see_what_operators_did")

    assert {"operator"} == {deed[1] for deed in said["deeds"]}
    assert {
        *("correct address", "reveal a parked record", "retry parked records", "discard a parked record"),
        "remove a subscriber",
    } <= {deed[2] for deed in said["deeds"]}
    assert {"done"} == {deed[4] for deed in said["deeds"] if deed[2] != "retire"}


async def test_whoever_signs_out_is_out(office: Office) -> None:
    said = await office.operator.do("sign_out")

    assert (said["out"], said["after"]) == ("Sign in", "Sign in")
