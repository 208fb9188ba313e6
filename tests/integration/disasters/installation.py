"""An installation as operators have it: the relay and the projectors run, and a person types commands."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from tests.forks import NOWHERE, Fork
from tests.integration.disasters.pages import blocks
from tests.integration.muster_processes import Ended, main, muster
from tests.integration.outbox.traffic import until_empty
from tests.waiting import until

STOP_SECONDS = 30
#: What people do between two blocks of a page, by the number of the block before.
Between = Mapping[int, Callable[[], Awaitable[None]]]


class Installation:
    """Processes as operators run them, and a client of commands."""

    def __init__(self, variables: dict[str, str], topic: str) -> None:
        self.variables = variables
        #: What the pages call `users.events`.
        self.topic = topic
        self._processes: dict[str, Fork] = {}

    async def start(self, *names: str) -> None:
        for name in names:
            self._processes[name] = await Fork.start(main, name, environment=self.variables, out=NOWHERE, err=NOWHERE)

    async def stop(self, *names: str) -> None:
        for name in names:
            process = self._processes.pop(name)
            process.terminate()
            await asyncio.wait_for(process.wait(), STOP_SECONDS)

    def signal(self, name: str, number: int) -> None:
        self._processes[name].send_signal(number)

    async def close(self) -> None:
        await self.stop(*self._processes)

    async def states(self) -> set[str]:
        """Those of the generations that serve."""
        found = await self._serving()
        return {"behind" if one["state"] == "fed" and one["records"] else one["state"] for one in found}

    async def reasons(self) -> list[str]:
        """Why the generations that serve are in no better state."""
        return [one["reason"] for one in await self._serving()]

    async def _serving(self) -> list[dict[str, Any]]:
        ended = await muster(self.variables, "lag", "--json")
        assert ended.code == 0, ended
        return [one for one in json.loads(ended.out)["projections"] if one["status"] == "serving"]

    async def until_all_are(self, state: str) -> None:
        async def so() -> bool:
            return await self.states() == {state}

        await until(so, within=60, what=f"every projection to be {state}")

    async def until_published(self) -> None:
        """Wait until nothing waits in the outbox."""
        told = self.variables
        connection = await asyncpg.connect(
            host=told["POSTGRES_SERVER"], port=int(told["POSTGRES_PORT"]), database=told["COMMAND_POSTGRES_DB"],
            user=told["RELAY_POSTGRES_USER"], password=told["RELAY_POSTGRES_PASSWORD"],
        )  # fmt: skip
        try:
            await until_empty(connection, within=60)
        finally:
            await connection.close()

    async def walk(self, page: str, between: Between | None = None) -> None:
        """Do what the page says."""
        for number, lines in enumerate(blocks(page)):
            words = [shlex.split(line.replace("users.events", self.topic)) for line in lines]
            for _, assignment in (one for one in words if one[0] == "export"):
                name, _, value = assignment.partition("=")
                self.variables[name] = value
            commands = [one[1:] for one in words if one[0] == "muster"]
            # Each projection is built for itself.
            together = {tuple(command[:1]) for command in commands} == {("rebuild",)}
            if together:
                await asyncio.gather(*map(self.run, commands))
            else:
                for command in commands:
                    await self.run(command)
            if between and number in between:
                await between[number]()

    async def run(self, command: list[str]) -> Ended:
        """Run a command, again where what it says is a moment away; an audit finds no difference."""
        ended: Ended | None = None

        async def done() -> bool:
            nonlocal ended
            ended = await muster(self.variables, *command)
            return ended.code == 0 or not any(words in ended.err for words in A_MOMENT_AWAY)

        await until(done, within=60, what="what is a moment away")
        assert ended is not None
        assert ended.code == 0, (command, ended)
        if command == ["audit"]:
            assert ", 0 differences" in ended.out
        return ended


#: Ten seconds after a switch, and what a relay that has just been started does.
A_MOMENT_AWAY = ("served until", "no relay has led yet")


@asynccontextmanager
async def installed(variables: dict[str, str], topic: str) -> AsyncIterator[Installation]:
    installation = Installation(variables, topic)
    try:
        yield installation
    finally:
        await installation.close()
