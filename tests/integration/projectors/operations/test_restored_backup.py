"""The commands of the page on restored backups, as they stand there, lead to an audit without differences."""

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from chassis.postgres.database import Database
from chassis.settings import PostgresAddress
from command_api.app import create_app
from projectors.app import serve
from projectors.migrate import revert
from projectors.settings import ProjectorSettings
from tests.integration.command_api.conftest import make_settings, register, registration, serving
from tests.integration.muster_processes import Ended, muster
from tests.integration.projectors.conftest import running
from tests.integration.projectors.operations.test_repair import caught_up, relay, shown
from tests.integration.projectors.stream import Publisher
from tests.waiting import until

PAGE = Path(__file__).parents[4] / "docs" / "how-to" / "restore-a-backup.md"
RELAY_SECONDS = 0.1


def commands(section: str) -> list[list[str]]:
    """The arguments of each `muster` in the blocks of one section."""
    [text] = re.findall(rf"^## {section}\n(.*?)(?=^## )", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    lines = "\n".join(re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)).splitlines()
    return [shlex.split(line)[1:] for line in lines if line]


@dataclass(frozen=True, slots=True)
class Installation:
    """Both sides, and who goes between them."""

    variables: dict[str, str]
    settings: ProjectorSettings
    command: Database
    query: Database
    api: httpx.AsyncClient

    async def muster(self, *arguments: str) -> Ended:
        return await muster(self.variables, *arguments)

    async def all_is_read(self) -> None:
        async def is_published() -> bool:
            async with self.command.connection() as connection:
                return not await connection.fetchval("SELECT count(*) FROM outbox")

        await until(is_published, within=30, what="everything to be published")
        await caught_up(self.settings, self.query)


@pytest.fixture
async def both(
    variables: dict[str, str], settings: ProjectorSettings, database: Database, command: Database, publisher: Publisher
) -> AsyncIterator[Installation]:
    """An installation whose relay and command API run."""
    app = create_app(make_settings(command.address))
    async with serving(app) as api, relaying(command, publisher):
        yield Installation(variables, settings, command, database, api)


async def test_both_sides_agree_after_either_was_restored(both: Installation, query_database: PostgresAddress) -> None:
    async with running(partial(serve, both.settings)):
        people = await a_history_with_a_backup(both)
        await both.all_is_read()
        await restore(both.command)
        await walk_for_the_command_side(both, people)
        assert (await both.api.delete(f"/users/{people['ann']['id']}")).status_code == 204
        await both.all_is_read()
        assert {str(user_id) for user_id in await shown(both.query)} == {people["late"]["id"]}
    await asyncio.to_thread(revert, query_database, "base")
    migrate, audit = commands("The query database")
    assert (await both.muster(*migrate)).code == 0
    async with running(partial(serve, both.settings)):
        await both.all_is_read()
        assert differences(await both.muster(*audit, "--json")) == 0


async def a_history_with_a_backup(both: Installation) -> dict[str, dict[str, Any]]:
    """Of ann the backup is too old, gone was erased after it, late and lost came after it."""
    people = {name: await register(both.api, name) for name in ("ann", "gone")}
    async with both.command.connection() as connection:
        await connection.execute("CREATE TABLE backup AS SELECT * FROM users")
    for name in ("Ann", "Ann Other"):
        changed = await both.api.patch(f"/users/{people['ann']['id']}/profile", json={"display_name": name})
        assert changed.status_code == 200, changed.text
    assert (await both.api.delete(f"/users/{people['gone']['id']}")).status_code == 204
    return people | {name: await register(both.api, name) for name in ("late", "lost")}


async def restore(command: Database) -> None:
    async with command.connection() as connection, connection.transaction():
        await connection.execute("DELETE FROM users")
        await connection.execute("DELETE FROM erased_users")
        await connection.execute("INSERT INTO users SELECT * FROM backup")


async def walk_for_the_command_side(both: Installation, people: dict[str, dict[str, Any]]) -> None:
    migrate, ahead, audit = commands("The command database")
    assert (await both.muster(*migrate)).code == 0
    for _ in range(4):
        ended = await both.muster(*ahead, "--json")
        left = json.loads(ended.out)
        for user_id in left["erase_again"]:
            assert (await both.api.delete(f"/users/{user_id}")).status_code == 204
        if left["only_read_side"]:
            assert set(left["only_read_side"]) == {people["late"]["id"], people["lost"]["id"]}
            line = json.dumps(registration("late", id=people["late"]["id"]))
            answer = await both.api.post(
                "/users/import", content=line, headers={"Content-Type": "application/x-ndjson"}
            )
            assert answer.status_code == 200, answer.text
            left["repair"].append(people["lost"]["id"])
        if left["repair"]:
            mended = await both.muster("repair", *left["repair"])
            assert mended.code == 0, mended.err
        await both.all_is_read()
        if not ended.code:
            break
    assert differences(await both.muster(*audit, "--json")) == 0


def differences(ended: Ended) -> int:
    return sum(json.loads(ended.out)["differences"].values())


@asynccontextmanager
async def relaying(command: Database, publisher: Publisher) -> AsyncIterator[None]:
    """Publish what is appended, all the time."""
    stopping = asyncio.Event()

    async def turn() -> None:
        while not stopping.is_set():
            await relay(command, publisher)
            try:
                await asyncio.wait_for(stopping.wait(), RELAY_SECONDS)
            except TimeoutError:
                continue

    task = asyncio.create_task(turn())
    try:
        yield
    finally:
        stopping.set()
        await task
