"""A complete copy of the users in SQLite, kept up to date, and its verification. See docs/how-to/keep-a-copy.md."""

import asyncio
import os
import sqlite3
import sys
from contextlib import closing
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition, errors
from muster_events import Batch, Erased, PositionGoneError, RangeTooLargeError, UserEvent, bootstrap, verify_copy

TABLES = """CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, version INTEGER, email TEXT);
CREATE TABLE IF NOT EXISTS positions (number INTEGER PRIMARY KEY, position INTEGER, time TEXT, newest INTEGER)"""
KEEP = "INSERT OR REPLACE INTO users SELECT ?1, ?2, ?3 WHERE ?2 > ifnull((SELECT version FROM users WHERE id = ?1), 0)"


class Copy:
    """The users, and how far the topic was read: one transaction writes both, so a crash loses and repeats nothing."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database
        self.as_of: datetime | None = None  # everything until then is in it
        database.executescript(TABLES)

    def write(self, batch: Batch) -> None:
        with self.database as transaction:
            for item in batch.items:
                match item:
                    case UserEvent(user=user, version=version):
                        transaction.execute(KEEP, (str(user.id), version, user.email))
                    case Erased(user_id=user_id):
                        transaction.execute("DELETE FROM users WHERE id = ?", (str(user_id),))
                    case unknown:  # of a later Muster: every subscriber ignores it
                        print(f"ignored {unknown.partition}:{unknown.offset}:", unknown.reason, file=sys.stderr)
            places = [(*place, str(batch.positions_time), batch.newest) for place in batch.positions.items()]
            transaction.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)", places)
        self.as_of = batch.as_of

    async def follow(self, topic: str) -> None:
        while True:
            places = self.database.execute("SELECT number, position, time, newest FROM positions").fetchall()
            time, newest = (datetime.fromisoformat(places[0][2]), places[0][3]) if places else (None, None)
            try:
                async with AIOKafkaConsumer(**kafka()) as consumer:
                    await consumer.end_offsets([TopicPartition(topic, 0)])  # from here on it knows the others, too
                    consumer.assign([TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()])
                    async for batch in bootstrap(consumer, {number: at for number, at, *_ in places}, time, newest):
                        self.write(batch)
            except PositionGoneError as error:
                print("beginning anew:", error, file=sys.stderr)
                self.as_of = None
                self.database.executescript("BEGIN; DELETE FROM users; DELETE FROM positions; COMMIT")
            except errors.KafkaError as error:  # the brokers are away, and the rows say where to go on
                print("coming back in a second:", error, file=sys.stderr)
                await asyncio.sleep(1)

    async def verify(self, queries: httpx.AsyncClient) -> str:
        async def fetch(target: str) -> tuple[Any, str]:
            while (answer := await queries.get(target)).status_code == 503:
                if answer.json()["type"] == "/problems/query-too-expensive":
                    raise RangeTooLargeError
                await asyncio.sleep(float(answer.headers["Retry-After"]))
            return answer.raise_for_status().json(), answer.headers["As-Of"]

        async def rows(passed: datetime | None) -> list[tuple[UUID, int]]:
            while self.as_of is None or (passed and self.as_of <= passed):  # noqa: ASYNC110 - it moves twice a second
                await asyncio.sleep(0.1)
            return [(UUID(user), version) for user, version in self.database.execute("SELECT id, version FROM users")]

        found = await verify_copy(fetch, rows)
        return "\n".join([f"{found.users} users, {len(found.differences)} differ", *map(str, found.differences)])


def kafka() -> dict[str, Any]:
    """How to reach the brokers; over a network with SASL_SSL and an ssl_context."""
    found: dict[str, Any] = {"bootstrap_servers": os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")}
    if name := os.environ.get("KAFKA_SASL_USERNAME"):
        found |= {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512"}
        found |= {"sasl_plain_username": name, "sasl_plain_password": os.environ["KAFKA_SASL_PASSWORD"]}
    return {**found, "isolation_level": "read_committed", "auto_offset_reset": "none", "enable_auto_commit": False}


async def main(*, verify: bool) -> None:
    url, token = os.environ.get("PUBLIC_QUERY_URL", "http://127.0.0.1:8001"), os.environ.get("MUSTER_TOKEN")
    queries = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False)
    with closing(sqlite3.connect(os.environ.get("LOCAL_COPY_FILE", "local-copy.sqlite"))) as database:
        copy = Copy(database)
        async with queries, asyncio.TaskGroup() as group:
            following = group.create_task(copy.follow(os.environ.get("EVENTS_TOPIC", "users.events")))
            if verify:
                print(await copy.verify(queries))
                following.cancel()


if __name__ == "__main__":
    asyncio.run(main(verify="--verify" in sys.argv))
