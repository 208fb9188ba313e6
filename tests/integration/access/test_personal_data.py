"""Nothing that a client says of a person gets where it does not belong: logs, metrics, headers, problems, crashes.

Every value that a client can send holds the canary, through requests that succeed, are refused, are malformed, meet a
handler that breaks and a database that is away; so do a record that a stranger wrote to the topic, a row of the outbox
that is damaged, and a file whose import fails. Every process logs all it ever logs.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from chassis.clock import utc_now
from chassis.identifiers import new_id
from chassis.kafka.client import client_arguments
from chassis.postgres.database import connect, disconnect
from chassis.postgres.roles import OPERATOR
from chassis.settings import Kafka, PostgresAddress, Topics
from cli.access.scopes import SCOPES
from console.sign_in.links import make_link
from local_stack.ports import free_ports
from local_stack.postgres.server import PostgresServer
from outbox.headers import encode_headers
from tests.databases import as_role, prepare_command, prepare_query
from tests.integration.console.conftest import SECRET
from tests.integration.event_api.conftest import RECEIPTS_KEY
from tests.integration.muster_processes import Ended, environment, running
from tests.integration.muster_processes import muster as run_muster
from tests.integration.outbox.relaying import settings_for
from tests.integration.outbox.traffic import APPEND, consume, envelope
from tests.issuing import auth, bearer, token
from tests.servers.otlp_collector import Collector, collecting
from tests.servers.private_servers import make_database, private_postgres
from tests.waiting import until

CANARY = "kanari"
#: As bytes are shown by PostgreSQL, and by us.
SHAPES = (CANARY, CANARY.encode().hex())
WITHIN = 60

PASSWORD = f"{CANARY} of a password"
#: What people and programs speak to, and the variables of the ports at which they tell their metrics.
SERVED = ("command", "query", "events", "console")
INNER = ("COMMAND_API_OPS_PORT", "QUERY_API_OPS_PORT", "EVENT_API_OPS_PORT", "CONSOLE_OPS_PORT")
#: What comes with every request and is nobody's business.
BESIDE = {
    "User-Agent": f"{CANARY}/1",
    "Referer": f"https://{CANARY}.example.com/",
    "Cookie": f"session={CANARY}",
    "From": f"{CANARY}@example.com",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": f"{CANARY}=1",
    "baggage": f"user={CANARY}",
}
#: The spans of the last requests.
LAST = {
    "command-api": "PUT /users/{id}/email",
    "query-api": "GET /users/{id}",
    "event-api": "GET /erasures/{id}",
    "console": "GET /users/{id}",
}
#: Says the whole row where the database meets a name like this, as the detail of a violated constraint does.
TRAP = """
CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF to_jsonb(NEW)::text LIKE '%trapped%' THEN
        RAISE EXCEPTION 'trap' USING DETAIL = to_jsonb(NEW)::text;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER trap BEFORE INSERT ON TABLE_NAME FOR EACH ROW EXECUTE FUNCTION trap();
"""


@dataclass
class Muster:
    """Every process of Muster, each with a log of its own, and all that was answered."""

    command: httpx.AsyncClient
    query: httpx.AsyncClient
    events: httpx.AsyncClient
    console: httpx.AsyncClient
    server: PostgresServer
    databases: dict[str, PostgresAddress]
    kafka: Kafka
    topics: Topics
    ports: dict[str, int]
    #: Where each process tells its metrics.
    metrics: list[int]
    logs: dict[str, Path]
    collector: Collector
    #: What the processes are told, for commands beside them.
    variables: dict[str, str]
    answers: list[httpx.Response] = field(default_factory=list)
    pages: list[httpx.Response] = field(default_factory=list)

    async def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Send a request to the API that has it, as an operator unless told otherwise; the answer is kept."""
        reads = method == "GET" or path == "/users/search"
        return await self.ask_of(self.query if reads else self.command, method, path, **request)

    async def ask_of(self, client: httpx.AsyncClient, method: str, path: str, **request: Any) -> httpx.Response:
        """The same of one of the APIs."""
        headers = {**BESIDE, **bearer(scopes=SCOPES), **request.pop("headers", {})}
        answer = await client.request(method, path, headers=headers, **request)
        self.answers.append(answer)
        return answer

    async def look(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Send a request to the console; its pages show people to who may see them, and are kept for their headers."""
        beside = {name: value for name, value in BESIDE.items() if name != "Cookie"}
        answer = await self.console.request(method, path, headers=beside, **request)
        self.pages.append(answer)
        return answer

    async def execute(self, side: str, statement: str, *arguments: Any) -> None:
        """Run SQL on one of the databases."""
        connection = await asyncpg.connect(**self.databases[side].connect_arguments)
        try:
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()

    async def told(self, process: str, what: str) -> bool:
        """Whether a process has logged this."""
        return what in self.logs[process].read_text(encoding="utf-8")

    async def records(self) -> list[ConsumerRecord]:
        """What is on the topic."""
        return (await consume(settings_for(self.databases["command"], self.kafka, self.topics))).records


@pytest.fixture
async def muster(kafka: Kafka, topics: Topics, tmp_path: Path) -> AsyncIterator[Muster]:
    async with AsyncExitStack() as stack:
        collector = stack.enter_context(collecting())
        server, command = await stack.enter_async_context(private_postgres(prepare_command))
        query = await make_database(server, prepare_query)
        names = (*(f"serve {name}" for name in SERVED), "relay", "project")
        free = free_ports(len(names) + len(INNER))
        ports = dict(zip(names, free, strict=False))
        inner = dict(zip(INNER, map(str, free[len(names) :]), strict=True))
        own = {
            "EVENT_API_SECRETS": SECRET,
            "RECEIPTS_KEY": RECEIPTS_KEY,
            "CONSOLE_SECRET": SECRET,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            **{f"CONSOLE_{name.upper()}_URL": f"http://127.0.0.1:{ports[f'serve {name}']}" for name in SERVED[:3]},
        }
        logs = {name: tmp_path / f"{name}.log" for name in names}
        variables = environment(
            kafka, topics, command, query, LOG_LEVEL="DEBUG", AUTH_DISABLED="", **inner, **own, **auth()
        )
        processes = (
            running(variables, *name.split(), "--port", str(port), port=port, log=logs[name])
            for name, port in ports.items()
        )
        await asyncio.gather(*map(stack.enter_async_context, processes))
        command_api, query_api, event_api, console = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports[name]}", trust_env=False, timeout=WITHIN)
            )
            for name in names[: len(SERVED)]
        ]
        databases, logs = {"command": command, "query": query}, {**logs, "postgres": server.log}
        metrics = [*map(int, inner.values()), ports["relay"], ports["project"]]
        served = (command_api, query_api, event_api, console)
        yield Muster(*served, server, databases, kafka, topics, ports, metrics, logs, collector, variables)


def person(name: str, **more: Any) -> dict[str, Any]:
    """A registration that is canary throughout."""
    return {
        "email": f"{name}.{CANARY}@example.com",
        "username": f"{name}.{CANARY}",
        "password": PASSWORD,
        "display_name": f"{name} {CANARY}",
        "attributes": {"note": f"{name} {CANARY}"},
        **more,
    }


async def test_nothing_of_a_person_is_in_logs_metrics_traces_headers_problems_or_crashes(
    muster: Muster, tmp_path: Path
) -> None:
    ada = await succeed(muster)
    await be_refused(muster, ada)
    await be_malformed(muster)
    await read_events(muster, ada)
    await use_the_console(muster, ada)
    records = await muster.records()
    await meet_a_stranger(muster)
    failed = [await import_file(muster, tmp_path, bearing) for bearing in (token(scopes=SCOPES), CANARY)]
    await break_down(muster)
    await damage_a_row(muster)
    metrics = {f"metrics on {port}": await scraped(port) for port in muster.metrics}
    await muster.server.stop()
    await muster.ask("POST", "/users", json=person("away"))
    await muster.ask("GET", "/users", params={"username": f"away.{CANARY}"})
    await muster.ask("GET", f"/users/{ada}")

    await all_traces(muster, ada)

    statuses = {answer.status_code for answer in muster.answers}
    assert {200, 201, 204, 400, 401, 403, 404, 409, 412, 415, 422, 500, 503} <= statuses
    logs = {name: log.read_text(encoding="utf-8") for name, log in muster.logs.items()}
    assert all(logs.values())
    assert all("muster_" in text for text in metrics.values())
    assert len(records) > 5
    refused = [answer for answer in muster.answers if answer.status_code >= 400]
    assert mentions(logs.items()) == []
    assert mentions((about(answer), str(answer.headers.multi_items())) for answer in muster.answers) == []
    assert mentions((about(answer), said(answer)) for answer in refused) == []
    assert mentions(metrics.items()) == []
    assert mentions((f"a span of {span.service}", str(span)) for span in muster.collector.spans) == []
    assert {200, 303, 404} <= {page.status_code for page in muster.pages}
    assert any(CANARY in page.text for page in muster.pages), "the console shows people to who may see them"
    assert mentions((about(page), str(page.headers.multi_items())) for page in muster.pages) == []
    assert mentions((f"record at {record.offset}", str(record.headers)) for record in records) == []
    assert [ended.code for ended in failed] == [1, 1]
    assert "Refused, by kind:" in failed[0].out
    assert failed[1].out + failed[1].err
    assert mentions((f"import {number}", ended.err + ended.out) for number, ended in enumerate(failed)) == []


async def all_traces(muster: Muster, ada: str) -> None:
    """Wait until every process has told of its last work, and so of all before it."""
    last = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for method, path in (("PUT", f"/users/{ada}/email"), ("GET", f"/users/{ada}")):
        await muster.ask(method, path, json={"email": f"{CANARY}@example.com"}, headers={"traceparent": last})
    await muster.ask_of(muster.events, "GET", f"/erasures/{ada}", headers={"traceparent": last})
    await muster.console.get(f"/users/{ada}", headers={"traceparent": last})
    for service, name in LAST.items():
        await muster.collector.span(name, service=service, trace_id=bytes.fromhex(last[3:35]))
    assert {"relay", "projectors"} <= set(muster.collector.resources)


def mentions(texts: Iterable[tuple[str, str]]) -> list[str]:
    """The lines with a canary, each after where it is."""
    lines = (f"{where}: {line}" for where, text in texts for line in text.splitlines())
    return [line for line in lines if any(shape in line.lower() for shape in SHAPES)]


def about(answer: httpx.Response) -> str:
    """What was asked and how it went."""
    return f"{answer.request.method} {answer.url.path.replace(CANARY, '…')} {answer.status_code}"


def said(answer: httpx.Response) -> str:
    """A problem without `instance`: that is by its definition the path that was asked for."""
    return str({**answer.json(), "instance": ""})


async def scraped(port: int) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://127.0.0.1:{port}/metrics")).text


async def succeed(muster: Muster) -> str:
    """Everything that works, and a second user to collide with."""
    key = {"Idempotency-Key": f"{CANARY}-key"}
    answer = await muster.ask("POST", "/users", json=person("ada"), headers=key)
    await muster.ask("POST", "/users", json=person("ada"), headers=key)
    ada, wait = answer.json()["id"], {"Consistency-Token": answer.headers["Consistency-Token"], "Prefer": "wait=20"}
    await muster.ask("POST", "/users", json=person("bob"))
    await muster.ask("PUT", f"/users/{ada}/email", json={"email": f"ada2.{CANARY}@example.com"})
    await muster.ask("PUT", f"/users/{ada}/username", json={"username": f"ada2.{CANARY}"})
    await muster.ask("PUT", f"/users/{ada}/password", json={"password": f"{PASSWORD} 2", "current_password": PASSWORD})
    await muster.ask("PATCH", f"/users/{ada}/profile", json={"display_name": CANARY, "attributes": {CANARY: CANARY}})
    await muster.ask("POST", f"/users/{ada}/deactivate", json={"reason": f"{CANARY} asked"})
    await muster.ask("POST", f"/users/{ada}/reactivate")
    await muster.ask("GET", f"/users/{ada}", headers=wait)
    await muster.ask("GET", f"/users/{ada}/timeline", headers=wait)
    await muster.ask("GET", "/users", params={"email_prefix": CANARY, "username_prefix": "a", "limit": 1}, headers=wait)
    await muster.ask("GET", "/users", params={"limit": 1, "sort": "email"}, headers=wait)
    await muster.ask("POST", "/users/search", json={"email": f"bob.{CANARY}@example.com"})
    lines = [person("cyd"), person("cyd"), {"email": CANARY}, person("dee", attributes=CANARY), CANARY]
    await imported(muster, "\n".join(map(str, [*map(json.dumps, lines), f"{{{CANARY}"])))
    gone = (await muster.ask("POST", "/users", json=person("eve"))).json()["id"]
    await muster.ask("DELETE", f"/users/{gone}", headers={"Idempotency-Key": f"{CANARY}-gone"})
    return str(ada)


async def imported(muster: Muster, lines: str) -> httpx.Response:
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f"{CANARY}-import"}
    await muster.ask("POST", "/users/import", content=lines, headers=headers)
    return await muster.ask("POST", "/users/import", content=lines, headers={"Content-Type": "application/x-ndjson"})


async def be_refused(muster: Muster, ada: str) -> None:
    """Conflicts, and everybody who may not."""
    await muster.ask("POST", "/users", json=person("bob"))
    await muster.ask("POST", "/users", json=person("fay"), headers={"Idempotency-Key": f"{CANARY}-key"})
    await muster.ask("PUT", f"/users/{ada}/email", json={"email": f"bob.{CANARY}@example.com"})
    await muster.ask("PUT", f"/users/{ada}/username", json={"username": f"bob.{CANARY}"})
    await muster.ask("PUT", f"/users/{ada}/username", json={"username": CANARY}, headers={"If-Match": '"99"'})
    await muster.ask("PUT", f"/users/{ada}/password", json={"password": PASSWORD, "current_password": CANARY * 2})
    await muster.ask("PUT", f"/users/{new_id()}/email", json={"email": f"{CANARY}@example.com"})
    await muster.ask("GET", f"/users/{uuid4()}")
    for header in (f"Bearer {CANARY}", f"Basic {CANARY}", f"Bearer {token()[:-8]}{CANARY}x"):
        await muster.ask("POST", "/users", json=person("gil"), headers={"Authorization": header})
        await muster.ask("GET", "/users", params={"email": f"{CANARY}@example.com"}, headers={"Authorization": header})
    nobody = bearer(scopes=[CANARY])
    await muster.ask("POST", "/users", json=person("gil"), headers=nobody)
    own = bearer(ada, scopes=["self"])
    await muster.ask("PATCH", f"/users/{ada}/profile", json={"attributes": {"role": CANARY}}, headers=own)


async def be_malformed(muster: Muster) -> None:
    """What cannot be read, or says what is not allowed."""
    for body in (
        person("hal", email=CANARY),
        person("hal", email=f"{CANARY}@{CANARY}"),
        person("hal", username=f"{CANARY} {CANARY}"),
        person("hal", display_name=CANARY * 1000),
        person("hal", attributes=CANARY),
        person("hal", attributes={"deep": {"deeper": CANARY}}),
        person("hal", password=[CANARY]),
        person("hal", unknown=CANARY),
        CANARY,
    ):
        await muster.ask("POST", "/users", json=body)
    text = {"Content-Type": "application/json"}
    for start in (f'{{"email": "{CANARY}', f'{{"email": "{CANARY}", "email": '):
        await muster.ask("POST", "/users", content=start, headers=text)
        await muster.ask("POST", "/users", content=start.encode() + b'\x80"}', headers=text)
    await muster.ask("POST", "/users", content=CANARY, headers={"Content-Type": "text/plain"})
    await muster.ask("POST", "/users", json=person("hal"), headers={"Idempotency-Key": f'"{CANARY}\t"' * 99})
    await muster.ask("POST", "/users", json=person("hal"), headers={"If-Match": CANARY})
    await muster.ask("GET", f"/users/{CANARY}@example.com")
    await muster.ask("PUT", f"/users/{CANARY}@example.com/email", json={"email": f"{CANARY}@example.com"})
    await muster.ask("GET", f"/{CANARY}/{CANARY}")
    for parameter in ("email", "username", "cursor", "limit", "sort", "id", "created_from"):
        await muster.ask("GET", "/users", params={parameter: f"{CANARY}@{CANARY}@"})
        await muster.ask("POST", "/users/search", json={parameter: f"{CANARY}@{CANARY}@"})
    await muster.ask("GET", "/users", headers={"Consistency-Token": CANARY, "Accept": "application/json"})
    await muster.ask("GET", "/users", headers={"If-None-Match": f'"{CANARY}"', "Prefer": f"wait={CANARY}"})
    _, writer = await asyncio.open_connection("127.0.0.1", muster.ports["serve command"])
    writer.write(f"GET /{CANARY} {CANARY}\r\n{CANARY}\r\n\r\n".encode())
    await writer.drain()
    writer.close()


async def read_events(muster: Muster, ada: str) -> None:
    """Events by the page, whole and thin; and requests that say what is not allowed."""
    api, page = muster.events, {"Accept": "application/json"}

    async def ask(method: str, path: str, **request: Any) -> httpx.Response:
        return await muster.ask_of(api, method, path, **{"headers": page, **request})

    whole = await ask("GET", "/events", params={"from": "beginning", "full": "true"})
    assert CANARY in whole.text
    await ask("GET", "/events", params={"from": "beginning", "user": ada})
    for parameter in ("after", "from", "type", "user", "full", "limit", "unknown"):
        await ask("GET", "/events", params={parameter: f"{CANARY}@example.com"})
    await ask("GET", "/events", headers={**page, "Last-Event-ID": CANARY, "Prefer": f"wait={CANARY}"})
    await ask("GET", "/events", headers={"Accept": CANARY})
    await ask("GET", f"/erasures/{CANARY}@example.com")
    await ask("GET", f"/erasures/{ada}")
    for body in ({"name": f"{CANARY}@example.com"}, {"name": "x", "group": f"{CANARY}\n"}, {"unknown": CANARY}, CANARY):
        await ask("POST", "/subscribers", json=body)
    await ask("PUT", f"/subscribers/{CANARY}@example.com/position", json={"position": CANARY})
    await ask("PUT", "/subscribers/nobody/position", json={"position": CANARY})


def csrf_token_of(page: httpx.Response) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', page.text)
    assert found is not None, page.text
    return found[1]


async def use_the_console(muster: Muster, ada: str) -> None:
    """A person looks for people, sees one, and asks for what is not there."""
    await muster.look("GET", f"/sign-in/{CANARY}")
    await muster.look("POST", f"/sign-in/{CANARY}")
    connection = await connect(as_role(muster.databases["query"], OPERATOR), application="test")
    link = await make_link(connection, [SECRET], token(scopes=SCOPES), address="", now=utc_now())
    await disconnect(connection)
    offered = await muster.look("GET", link)
    signed = await muster.look("POST", link, data={"csrf": csrf_token_of(offered)})
    assert signed.status_code == 303, signed.text
    users = await muster.look("GET", "/users")
    csrf = csrf_token_of(users)
    for search in (CANARY, f"bob.{CANARY}@example.com", f"{CANARY}@", ada):
        form = {"csrf": csrf, "search": search, "text": search}
        answer = await muster.look("POST", "/users", data=form)
        if answer.status_code == 303:
            await muster.look("GET", answer.headers["location"])
    await muster.look("POST", f"/users/{ada}/reveal", data={"csrf": csrf})
    await muster.look("GET", f"/users/{ada}")
    await muster.look("POST", f"/users/{ada}/email", data={"csrf": csrf, "email": f"bob.{CANARY}@example.com"})
    await muster.look("GET", f"/users/{CANARY}@example.com")
    await muster.look("GET", f"/{CANARY}")
    await muster.look("POST", "/users", data={"csrf": CANARY, "search": CANARY})


async def break_down(muster: Muster) -> None:
    """Databases whose errors quote what they were given: in a batch of events, in commands, in a query."""
    await muster.execute("query", TRAP.replace("TABLE_NAME", "users_g1"))
    await muster.ask("POST", "/users", json=person("trapped"))
    await until(lambda: muster.told("project", '"trap'), within=WITHIN, what="the projectors' outage")
    await muster.execute("query", "DROP FUNCTION trap CASCADE")
    await muster.execute("command", TRAP.replace("TABLE_NAME", "users"))
    await muster.ask("POST", "/users", json=person("trapped2"))
    await imported(muster, json.dumps(person("trapped3")))
    await muster.execute("command", f"ALTER TABLE users ADD CHECK (username NOT LIKE 'checked.{CANARY}')")
    await muster.ask("POST", "/users", json=person("checked"))
    await imported(muster, json.dumps(person("checked")))
    await muster.execute("query", "ALTER TABLE users_g1 RENAME COLUMN username_key TO broken")
    await muster.ask("GET", "/users", params={"username": f"bob.{CANARY}"})


async def meet_a_stranger(muster: Muster) -> None:
    """Records of somebody else's on the topic, all canary: some whose key is an address, one that looks like ours."""
    address, user_id = f"{CANARY}@example.com", new_id()
    headers = [("ce_type", CANARY.encode()), (CANARY, address.encode()), ("ce_sequence", address.encode())]
    ours = [(name, value) for name, value in envelope(user_id, 1).headers() if name not in {"ce_type", "ce_sequence"}]
    producer = AIOKafkaProducer(**client_arguments(muster.kafka))
    await producer.start()
    try:
        for key in (address, str(user_id)):
            value = json.dumps({"user": {"email": address}}).encode()
            await producer.send_and_wait(muster.topics.events_topic, value, key=key.encode(), headers=[*ours, *headers])
        await producer.send_and_wait(muster.topics.events_topic, address.encode(), key=address.encode())
    finally:
        await producer.stop()
    await until(lambda: muster.told("project", "feed.records_parked"), within=WITHIN, what="they are parked")
    await muster.ask_of(muster.events, "GET", "/events", headers={"Accept": "application/json"})
    parked = await muster.look("GET", "/parked")
    assert parked.status_code == 200, parked.text


async def damage_a_row(muster: Muster) -> None:
    """An event of a type that nobody has, whose version is an address: the relay says what is wrong with it."""
    user_id = new_id()
    event = envelope(user_id, 1)
    damaged = encode_headers(event).replace(b"%020d" % 1, f"{CANARY}@a.example.com".encode())
    damaged = damaged.replace(b"profile_changed", f"{CANARY}_changed_".encode())
    value = json.dumps(person("ivy")).encode()
    await muster.execute("command", APPEND, event.event_id, user_id, value, damaged)
    await until(lambda: muster.told("relay", '"phase":"held"'), within=WITHIN, what="the relay is held up")
    assert await muster.told("relay", "a header is not what its name promises")


async def import_file(muster: Muster, folder: Path, bearing: str) -> Ended:
    """An import of a file whose lines are refused, with a token that may be refused itself."""
    file = folder / "people.ndjson"
    lines = [person("bob"), {"email": CANARY}, person("joe", attributes=CANARY), {"age": CANARY}]
    file.write_text("\n".join([*map(json.dumps, lines), f"{{{CANARY}"]), encoding="utf-8")
    told = {**muster.variables, "MUSTER_TOKEN": bearing}
    return await run_muster(told, "import", str(file), "--url", f"http://127.0.0.1:{muster.ports['serve command']}")
