"""The read table is rebuilt while commands and queries go on, every part a process of its own as in production."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from chassis.lifecycle import wait_for_event
from chassis.postgres.database import Database
from chassis.settings import Kafka, PostgresAddress, Topics
from local_stack.ports import free_ports
from read_model import generations
from tests.integration.muster_processes import environment, muster, running
from tests.waiting import until

USERS = 3000
COMMANDS_PER_SECOND = 200
READS_PER_SECOND = 500
WRITERS, READERS = 8, 16
#: Users that are written to, and read as often as all the others together.
HOT = 200
#: A read that hangs has failed.
ANSWER_SECONDS = 5
#: "Query processes follow within a second."
FOLLOW_SECONDS = 1.0
HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"


class Client:
    """One connection, one request at a time; as light as can be, because both cores are needed by what is tested."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def open(cls, port: int) -> AsyncIterator["Client"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    async def send(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json"
    ) -> tuple[int, bytes]:
        lines = (
            f"{method} {path} HTTP/1.1",
            "Host: localhost",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
        )
        head = "\r\n".join((*lines, "", ""))
        async with asyncio.timeout(ANSWER_SECONDS):
            self._writer.write(head.encode() + body)
            answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            _, _, length = answer.partition(b"content-length: ")
            status = int(answer.split(b" ", 2)[1])
            return status, await self._reader.readexactly(int(length.split(b"\r\n", 1)[0]))


@dataclass
class Load:
    """What clients do and see until `over` is set."""

    ids: list[str]
    over: asyncio.Event = field(default_factory=asyncio.Event)
    seen: dict[str, int] = field(default_factory=dict)
    reads: int = 0
    commands: int = 0

    async def write(self, client: Client, rng: random.Random) -> None:
        body = json.dumps({"display_name": f"Name {rng.randrange(10**9)}"}).encode()
        status, answer = await client.send("PATCH", f"/users/{rng.choice(self.ids[:HOT])}/profile", body)
        assert status == 200, answer
        self.commands += 1

    async def read(self, client: Client, rng: random.Random) -> None:
        if rng.random() < 0.2:
            status, answer = await client.send("GET", "/users?limit=20&sort=updated_at")
            assert status == 200, answer
            found: list[dict[str, Any]] = json.loads(answer)["data"]
            assert len(found) == 20
        else:
            wanted = rng.choice(self.ids[:HOT] if rng.random() < 0.5 else self.ids)
            # What any client has been shown by now: whoever asks from here on must see that, or later.
            least = self.seen.get(wanted, 1)
            status, answer = await client.send("GET", f"/users/{wanted}")
            assert status == 200, answer
            version = json.loads(answer)["version"]
            assert version >= least, f"{wanted} went back from version {least} to {version}"
            self.seen[wanted] = max(version, self.seen.get(wanted, 1))
        self.reads += 1

    async def keep(self, port: int, seconds: float, turn: Callable[[Client, random.Random], Awaitable[None]]) -> None:
        """Take a turn every so many seconds; late ones are left out, so that a slow machine is not swamped."""
        rng = random.Random(port)
        async with Client.open(port) as client:
            due = time.monotonic() + rng.random() * seconds
            while not await wait_for_event(self.over, max(due - time.monotonic(), 0)):
                await turn(client, rng)
                due = max(due + seconds, time.monotonic())


async def register(port: int) -> list[str]:
    """Import the users; their ids."""
    lines = [{"email": f"user{n}@example.com", "username": f"user{n}", "password_hash": HASH} for n in range(USERS)]
    body = "\n".join(map(json.dumps, lines)).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    head = (
        "POST /users/import HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/x-ndjson\r\n"
    )
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    results = [json.loads(line) for line in answer.split(b"\n") if line.lstrip().startswith(b'{"line"')]
    assert len(results) == USERS, answer[:500]
    return [result["id"] for result in results]


async def test_readers_see_no_failure_and_nothing_older_while_tables_are_rebuilt_switched_and_switched_back(
    kafka: Kafka, topics: Topics, command_database: PostgresAddress, query_database: PostgresAddress, database: Database
) -> None:
    command_port, query_port, relay_port, projectors_port, *inner_ports = free_ports(6)
    variables = environment(
        kafka, topics, command_database, query_database,
        RELAY_HTTP_PORT=str(relay_port), PROJECTORS_HTTP_PORT=str(projectors_port),
        COMMAND_API_OPS_PORT=str(inner_ports[0]), QUERY_API_OPS_PORT=str(inner_ports[1]),
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        for arguments, port in (
            (("serve", "command", "--port", str(command_port)), command_port),
            (("serve", "query", "--port", str(query_port)), query_port),
            (("relay",), relay_port),
            (("project", "users"), projectors_port),
        ):
            await stack.enter_async_context(running(variables, *arguments, port=port))
        load = Load(await register(command_port))
        await until(lambda: all_visible(database), within=60, what="every user to be in the read table")
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(load.keep(command_port, WRITERS / COMMANDS_PER_SECOND, load.write))
            for _ in range(READERS):
                group.create_task(load.keep(query_port, READERS / READS_PER_SECOND, load.read))
            await until(lambda: some_load(load, 200), within=60, what="the load to be there")
            done = await muster(variables, "rebuild", "users", "--json")
            assert done.code == 0, done.err
            report = json.loads(done.out)
            assert report.pop("compared").endswith("users compared with the command side: no difference")
            assert report == {"projection": "users", "generation": 2, "result": "done", "accepted": None}
            await nobody_reads(database, 1, load)
            back = await muster(variables, "rebuild", "rollback", "users", "--json")
            assert back.code == 0, back.err
            await nobody_reads(database, 2, load)
            # On a slow machine they are still few: what they would have seen afterwards counts too.
            await until(lambda: some_load(load, 500), within=60, what="enough to have been written and read")
            await until(lambda: many_seen_changed(load), within=60, what="many to have been seen changed")
            load.over.set()


async def all_visible(database: Database) -> bool:
    async with database.connection() as connection:
        return bool(await connection.fetchval("SELECT count(*) FROM users_g1") == USERS)


async def some_load(load: Load, count: int) -> bool:
    return min(load.reads, load.commands) >= count


async def some_reads(load: Load, count: int) -> bool:
    return load.reads >= count


async def many_seen_changed(load: Load) -> bool:
    return len([version for version in load.seen.values() if version > 1]) > HOT / 2


async def nobody_reads(database: Database, number: int, load: Load) -> None:
    """A second after the switch the old tables can be locked against all readers, and none of them notices."""
    async with database.connection() as connection:
        serving = await generations.serving(connection, "users")
        assert serving.number != number
        age = await connection.fetchval(
            "SELECT extract(epoch FROM clock_timestamp() - changed_at)::float8 FROM generations"
            " WHERE projection = 'users' AND status = 'serving'"
        )
        switched = time.monotonic() - float(age)

        async def followed() -> bool:
            return time.monotonic() - switched > FOLLOW_SECONDS

        await until(followed, within=5, what="the second that query processes may take")
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE users_g{number} IN ACCESS EXCLUSIVE MODE")
            await until(lambda wanted=load.reads + 300: some_reads(load, wanted), within=30, what="reads to go on")  # type: ignore[misc]
