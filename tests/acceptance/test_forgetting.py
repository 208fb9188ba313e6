"""One person is erased, and nothing of them is left: in no table, no dump, no log, and not in the topic.

No password and no token of theirs was in any of these in clear at any time. Everything that can hold text holds the
canary: e-mail, name, password, attributes, reason, keys of retries, and a record that cannot be read, for which the
person's later ones are parked.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaProducer

from chassis.kafka.client import admin, client_arguments, ensure_topics
from chassis.settings import Kafka, PostgresAddress, Topics
from local_stack.kafka.broker import KafkaServer
from local_stack.ports import free_port
from local_stack.postgres.server import find_binaries
from local_stack.processes.http_process import HttpProcess
from outbox.settings import RelaySettings
from outbox.topics import wanted_topics
from tests.acceptance.stack import MUSTER, clean_environment
from tests.integration.outbox.relaying import settings_for
from tests.integration.outbox.traffic import consume
from tests.issuing import auth, bearer
from tests.waiting import until

CANARY = "canary"
#: A projection that is parked and freed again, a cleaner that comes by twice a second, all on a loaded machine.
FORGETTING_SECONDS = 90
HTTP_SECONDS = 30
#: Topics that forget within seconds instead of days, by the variables of every process.
LAGS = {
    "TOPIC_MIN_COMPACTION_LAG_MS": "0",
    "TOPIC_MAX_COMPACTION_LAG_MS": "1000",
    "TOPIC_DELETE_RETENTION_MS": "60000",
    "TOPIC_SEGMENT_MS": "500",
    "TOPIC_PARTITIONS": "3",
}
CLEANER = {"log.cleaner.backoff.ms": "500", "log.retention.check.interval.ms": "500"}


@dataclass(frozen=True)
class Muster:
    """A command API, a relay and projectors as processes, and what they work on."""

    url: str
    relay: RelaySettings
    databases: tuple[PostgresAddress, PostgresAddress]
    logs: list[Path]

    async def mentions(self, text: str) -> dict[str, list[str]]:
        """The rows that have the text in them, as text or as bytes, by database and table; the empty ones left out."""
        found = {}
        for address in self.databases:
            connection = await asyncpg.connect(**address.connect_arguments)
            try:
                for table in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
                    rows = await connection.fetch(f'SELECT t::text FROM "{table[0]}" AS t')
                    if texts := [row[0] for row in rows if _has(row[0], text)]:
                        found[f"{address.database}.{table[0]}"] = texts
            finally:
                await connection.close()
        return found


@pytest.fixture
async def muster(
    command_database: PostgresAddress, query_database: PostgresAddress, server_folder: Path
) -> AsyncIterator[Muster]:
    """Muster on two databases and a broker of its own."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(KafkaServer(server_folder / "kafka", learn=False, settings=CLEANER))
        kafka = Kafka.model_construct(kafka_bootstrap_servers=broker.bootstrap_servers)
        values: dict[str, Any] = dict(LAGS)
        topics = Topics(_env_file=None, **values)
        async with admin(kafka) as client:
            await ensure_topics(client, wanted_topics(topics))
        environment = {
            **clean_environment(),
            **LAGS,
            **_variables("COMMAND", command_database),
            **_variables("QUERY", query_database),
            "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "IDEMPOTENCY_SECRET": "a secret of thirty-two characters",
            "CREDENTIALS_SECRETS": "a secret of thirty-two characters",
            "LOG_LEVEL": "DEBUG",
            **auth(),
        }
        processes = {}
        for name in ("serve command", "relay", "project"):
            port = free_port()
            processes[name] = process = HttpProcess(
                name.replace(" ", "-"),
                [MUSTER, *name.split(), "--port", str(port)],
                port=port,
                environment=environment,
                folder=server_folder,
                log=server_folder / f"{name.replace(' ', '-')}.log",
                ready_path="/readyz",
            )
            await stack.enter_async_context(process)
        yield Muster(
            url=f"http://127.0.0.1:{processes['serve command'].port}",
            relay=settings_for(command_database, kafka, topics),
            databases=(command_database, query_database),
            logs=[server_folder / f"{name.replace(' ', '-')}.log" for name in processes],
        )


def _variables(side: str, address: PostgresAddress) -> dict[str, str]:
    return {
        f"{side}_POSTGRES_USER": address.user,
        f"{side}_POSTGRES_PASSWORD": address.password.get_secret_value(),
        f"{side}_POSTGRES_SERVER": address.server,
        f"{side}_POSTGRES_PORT": str(address.port),
        f"{side}_POSTGRES_DB": address.database,
    }


async def test_nothing_of_an_erased_person_is_left_anywhere(muster: Muster) -> None:
    async with httpx.AsyncClient(base_url=muster.url, timeout=HTTP_SECONDS, trust_env=False, headers=bearer()) as http:
        person, secrets = await live(http, CANARY)
        neighbour, _ = await live(http, "neighbour")
        await publish_rubbish(muster, person)
        await until(lambda: everywhere(muster), within=FORGETTING_SECONDS, what="the canary in every kind of table")
        await assert_nowhere(muster, secrets)
        erase = {"Idempotency-Key": f"{CANARY}-erase"}
        answer = await http.delete(f"/users/{person}", headers=erase)
        assert answer.status_code == 204, answer.text

    async def forgotten() -> bool:
        records = (await consume(muster.relay, "read_uncommitted")).records
        return not any(_mentions(record) for record in records) and not await muster.mentions(CANARY)

    await until(forgotten, within=FORGETTING_SECONDS, what="the canary gone from both databases and the topic")
    for address in muster.databases:
        dump = await dumped(address)
        assert "neighbour" in dump, "the dump has what was not erased"
        assert not _has(dump, CANARY)
    for log in muster.logs:
        text = log.read_text()
        assert text, f"{log.name} has lines to search"
        assert not _has(text, CANARY), log.name
    kept = (await consume(muster.relay)).versions()
    assert kept[neighbour][-1] == 8, "everybody else's last state is kept"


async def assert_nowhere(muster: Muster, secrets: list[str]) -> None:
    """None of them in clear: in no table of either database, nor its dump, not in the topic, in no log."""
    records = (await consume(muster.relay, "read_uncommitted")).records
    logs = "".join(log.read_text() for log in muster.logs)
    dumps = "".join([await dumped(address) for address in muster.databases])
    for secret in secrets:
        assert not await muster.mentions(secret)
        assert not any(_mentions(record, secret) for record in records)
        assert not _has(logs, secret)
        assert not _has(dumps, secret)


async def live(http: httpx.AsyncClient, name: str) -> tuple[str, list[str]]:
    """Somebody with their name in everything that can hold text, in version 8; gives their id and their secrets."""
    key = {"Idempotency-Key": f"{name}-register"}
    body = {
        "email": f"{name}@example.com",
        "username": name,
        "password": f"{name} password",
        "display_name": f"{name} name",
        "attributes": {name: [name]},
    }
    answer = await http.post("/users", json=body, headers=key)
    assert answer.status_code == 201, answer.text
    user: str = answer.json()["id"]
    url = f"/users/{user}"
    reset, device = await reset_password(http, user, f"{name} password 3")
    verification = await issue(http, user, "email-verification")
    verified = await http.post("/one-time-tokens/redeem", json={"token": verification})
    unused = await issue(http, user, "password-reset")
    assert verified.status_code == 200, verified.text
    logged_in = await log_in(http, name, f"{name} password 3", f"{name} wrong password")
    key = {"Idempotency-Key": f"{name}-change"}
    answers = [
        await http.put(f"{url}/email", json={"email": f"{name}2@example.com"}, headers=key),
        await http.put(f"{url}/username", json={"username": f"{name}2"}),
        await http.put(f"{url}/password", json={"password": f"{name} password 2"}),
        await http.patch(f"{url}/profile", json={"attributes": {name: {name: name}}}),
        # Changes nothing, but stores an answer.
        await http.put(f"{url}/username", json={"username": f"{name}2"}, headers={"Idempotency-Key": f"{name}-again"}),
        # Refused: what was wrong may be said to the client, not to the logs.
        await http.put(f"{url}/email", json={"email": f"{name} no address"}),
        await http.post(f"{url}/deactivate", json={"reason": f"{name} reason"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 204, 200, 200, 422, 200]
    passwords = [f"{name} password", f"{name} password 2", f"{name} password 3"]
    return user, [*passwords, f"{name} wrong password", reset, verification, unused, device, logged_in]


async def reset_password(http: httpx.AsyncClient, user: str, password: str) -> tuple[str, str]:
    """Reset it by a one-time token; gives that, and the device token of the answer."""
    token = await issue(http, user, "password-reset")
    answer = await http.post("/one-time-tokens/redeem", json={"token": token, "password": password})
    assert answer.status_code == 200, answer.text
    return token, answer.headers["device-token"]


async def log_in(http: httpx.AsyncClient, name: str, password: str, wrong: str) -> str:
    """After a wrong attempt, known or not; gives the device token."""
    answers = [
        await http.post("/credentials/verify", json={"identifier": identifier, "password": given})
        for identifier, given in ((f"{name}-absent", wrong), (name, wrong), (f"{name}@example.com", password))
    ]
    assert [answer.status_code for answer in answers] == [403, 403, 200]
    token: str = answers[-1].json()["device_token"]
    return token


async def issue(http: httpx.AsyncClient, user: str, purpose: str) -> str:
    answer = await http.post(f"/users/{user}/one-time-tokens", json={"purpose": purpose})
    assert answer.status_code == 201, answer.text
    token: str = answer.json()["token"]
    return token


async def publish_rubbish(muster: Muster, user: str) -> None:
    """A record of the person's that no projection can read, as another producer might write it."""
    producer = AIOKafkaProducer(**client_arguments(muster.relay))
    await producer.start()
    try:
        headers = [("ce_type", b"muster.user.profile_changed.v1"), ("ce_sequence", CANARY.encode())]
        await producer.send_and_wait(
            muster.relay.events_topic, CANARY.encode(), key=user.encode(), headers=headers, timestamp_ms=None
        )
    finally:
        await producer.stop()


async def everywhere(muster: Muster) -> bool:
    """Whether the canary is in users, timeline, parked records and stored answers: no empty table is searched."""
    tables = {name.partition(".")[2] for name in await muster.mentions(CANARY)}
    return all(any(part in name for name in tables) for part in ("users", "timeline", "parked", "idempotency"))


async def dumped(address: PostgresAddress) -> str:
    """The whole database as PostgreSQL's own program dumps it."""
    process = await asyncio.create_subprocess_exec(
        str(find_binaries(None) / "pg_dump"),
        *("-h", address.server, "-p", str(address.port), "-U", address.user, address.database),
        env={**os.environ, "PGPASSWORD": address.password.get_secret_value()},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


def _mentions(record: object, text: str = CANARY) -> bool:
    parts = [record.key, record.value, *(part for pair in record.headers for part in (pair[0].encode(), pair[1]))]  # type: ignore[attr-defined]
    return any(text.encode() in part for part in parts if part)


def _has(text: str, canary: str) -> bool:
    """As it is, or as the hexadecimal digits of bytes."""
    return canary.lower() in text.lower() or canary.encode().hex() in text
