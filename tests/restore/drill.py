"""Three disasters, each mended as docs/how-to/restore-a-backup.md says, until an audit finds no difference.

Before each some people are changed, erased and registered, on both sides of the time to which the command side goes
back: of `ann` the restored state is too old, `gone` was erased after it, `late` and `lost` were registered after it.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx

from tests.restore.installation import TwoServers

PASSWORD: Final = "correct horse battery"
#: Each round of mending may leave what the next one does.
ROUNDS: Final = 5


@dataclass(slots=True)
class Drill:
    """One disaster: the steps out of it with their seconds, and what the audit found in the end."""

    name: str
    steps: dict[str, float] = field(default_factory=dict)
    compared: int = 0
    differing: int = 0
    #: What was wrong with a person in the end.
    wrong: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From the loss to the audit's end."""
        return sum(self.steps.values())

    @property
    def holds(self) -> bool:
        """Whether both sides agree, and are as they should be."""
        return bool(self.compared) and not self.differing and not self.wrong

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[None]:
        """Time a step."""
        began = time.monotonic()
        yield
        self.steps[name] = self.steps.get(name, 0.0) + time.monotonic() - began


@dataclass(slots=True)
class Past:
    """What happened before a disaster: the people of it by name, and the time between their changes."""

    people: dict[str, dict[str, Any]]
    moment: datetime


Report = Callable[[str], object]


async def drills(muster: TwoServers, report: Report) -> list[Drill]:
    """All three, one after the other, each with a backup of its own that was taken before anything of it happened."""
    done = []
    for name, drill in (
        ("the command side, to a point in time", _command_side),
        ("the query side, from nothing", _query_side),
        ("both at once", _both_sides),
    ):
        one = Drill(name)
        report(f"drill: {name}")
        backup = await muster.store.back_up(muster.command_server)
        past = await _history(muster)
        await drill(muster, one, backup, past)
        async with one.step("`muster audit`"):
            found = await muster.answer("audit")
        one.compared, one.differing = found["compared"], sum(found["differences"].values())
        report(f"drill: {name}: {one.seconds:.0f} s, {one.differing} differences of {one.compared:,} {one.wrong}")
        done.append(one)
    return done


async def _history(muster: TwoServers) -> Past:
    """Let things happen before and after the time that is restored, and be published, read and archived."""
    async with muster.api() as api:
        people = {name: await _register(api, name) for name in ("ann", "gone")}
        await _rename(api, people["ann"], "Ann")
        await muster.all_is_read()
        moment = await muster.store.moment(muster.command_server)
        await _rename(api, people["ann"], "Ann Other")
        await _erase(api, people["gone"]["id"])
        people |= {name: await _register(api, name) for name in ("late", "lost")}
    await muster.all_is_read()
    await muster.store.archive(muster.command_server)
    return Past(people, moment)


async def _command_side(muster: TwoServers, drill: Drill, backup: Path, past: Past) -> None:
    await muster.lose(muster.command_server)
    await muster.end("command-api", "relay")
    await _restored(muster, drill, backup, past)
    await _mended(muster, drill, past)


async def _query_side(muster: TwoServers, drill: Drill, backup: Path, past: Past) -> None:
    del backup  # nothing of it is needed
    await muster.lose(muster.query_server)
    await muster.end("projectors")
    await _rebuilt(muster, drill)
    await _looked_at(muster, drill, {"ann": 200, "gone": 404, "late": 200, "lost": 200}, past)


async def _both_sides(muster: TwoServers, drill: Drill, backup: Path, past: Past) -> None:
    await asyncio.gather(muster.lose(muster.command_server), muster.lose(muster.query_server))
    await muster.end("command-api", "relay", "projectors")
    await _restored(muster, drill, backup, past)
    await _rebuilt(muster, drill)
    await _mended(muster, drill, past)


async def _restored(muster: TwoServers, drill: Drill, backup: Path, past: Past) -> None:
    """The command side's server at the time, and its relay."""
    async with drill.step("base backup and archive, up to the time"):
        await muster.restore(backup, past.moment)
    async with drill.step("`muster roles command`, `muster migrate command`, the relay"):
        await muster.command("roles", "command")
        await muster.command("migrate", "command")
        await muster.begin("relay")


async def _rebuilt(muster: TwoServers, drill: Drill) -> None:
    """A query side that has read the whole topic."""
    async with drill.step("`muster roles query`, `muster migrate query`"):
        await muster.new_query_server()
        await muster.command("roles", "query")
        await muster.command("migrate", "query")
    async with drill.step("projectors read the topic"):
        await muster.begin("projectors")
        await muster.all_is_read()


async def _mended(muster: TwoServers, drill: Drill, past: Past) -> None:
    """The read side does not know more than the command side any more."""
    async with drill.step("`muster repair --ahead`, and what it leaves to people"):
        left = await muster.answer("repair", "--ahead")
        await muster.begin("command-api")
        async with muster.api() as api:
            for _ in range(ROUNDS):
                if not await _leave_nothing(muster, api, left, past.people):
                    break
                await muster.all_is_read()
                left = await muster.answer("repair", "--ahead")
            else:
                drill.wrong.append(f"`muster repair --ahead` still leaves {left}")
        await muster.all_is_read()
    await _looked_at(muster, drill, {"ann": 200, "gone": 404, "late": 200, "lost": 404}, past)


async def _leave_nothing(
    muster: TwoServers, api: httpx.AsyncClient, left: dict[str, Any], people: dict[str, dict[str, Any]]
) -> bool:
    """Do what is left to a person: erase again, keep `late`, give `lost` up; tell whether there was anything."""
    for user_id in left["erase_again"]:
        await _erase(api, user_id)
    given_up = list(left["repair"])
    for user_id in left["only_read_side"]:
        if user_id == people["late"]["id"]:
            await _import(api, people["late"])
        else:
            given_up.append(user_id)
    if given_up:
        await muster.command("repair", *given_up)
    return bool(left["erase_again"] or left["only_read_side"] or given_up)


async def _looked_at(muster: TwoServers, drill: Drill, expected: dict[str, int], past: Past) -> None:
    """Read each person from a query API, which has nothing but the query side."""
    await muster.begin("query-api")
    async with muster.api("query-api") as api:
        for name, status in expected.items():
            answer = await api.get(f"/users/{past.people[name]['id']}")
            if answer.status_code != status:
                drill.wrong.append(f"{name}: {answer.status_code} and not {status}")
    await muster.end("query-api")


async def _register(api: httpx.AsyncClient, name: str) -> dict[str, Any]:
    mark = uuid4().hex[:12]
    body = {"email": f"{name}-{mark}@example.org", "username": f"{name}-{mark}", "password": PASSWORD}
    answer = await api.post("/users", json=body)
    assert answer.status_code == 201, answer.text
    user: dict[str, Any] = answer.json()
    return user


async def _rename(api: httpx.AsyncClient, user: dict[str, Any], name: str) -> None:
    answer = await api.patch(f"/users/{user['id']}/profile", json={"display_name": name})
    assert answer.status_code == 200, answer.text


async def _erase(api: httpx.AsyncClient, user_id: str) -> None:
    answer = await api.delete(f"/users/{user_id}")
    assert answer.status_code == 204, answer.text


async def _import(api: httpx.AsyncClient, user: dict[str, Any]) -> None:
    line = {"id": user["id"], "email": user["email"], "username": user["username"], "password": PASSWORD}
    answer = await api.post("/users/import", content=json.dumps(line), headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == 200, answer.text
