"""npm's EventSource, which is no work of ours, follows the event API and comes back to it.

Its `fetch` option carries the token, as a service's does; no token travels in a URL.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from chassis.settings import Kafka, Topics
from events.user_events import USER_EVENTS
from local_stack.ports import free_ports
from tests.event_streams import Sent, versions
from tests.integration.event_api.conftest import variables
from tests.integration.event_api.test_events import expected
from tests.integration.muster_processes import running
from tests.integration.projectors.stream import Publisher, lives
from tests.issuing import token
from tests.node_packages import FOLDER, PATH, require
from tests.waiting import until

#: By the standard a client comes back by itself to whoever ended the stream, and gives up where the answer is an error.
PROGRAM = """
import { createRequire } from 'node:module'
const { EventSource } = createRequire(process.cwd() + '/')('eventsource')
const { ADDRESS, TOKEN, TYPES } = process.env
let last = ''
function say(event) {
  last = event.lastEventId
  console.log(JSON.stringify({ type: event.type, data: event.data, id: event.lastEventId }))
}
function connect() {
  const resumed = last ? { 'Last-Event-ID': last } : {}
  const source = new EventSource(ADDRESS, {
    fetch: (input, init) => fetch(input, {
      ...init, headers: { ...resumed, ...init.headers, Authorization: `Bearer ${TOKEN}` },
    }),
  })
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) setTimeout(connect, 200) }
  for (const type of TYPES.split(',')) source.addEventListener(type, say)
}
connect()
// A client that waits to come back does not keep Node alive.
setInterval(() => {}, 60000)
"""


@asynccontextmanager
async def following(url: str, out: Path) -> AsyncIterator[None]:
    """The client, until the block ends; it writes a line for each event."""
    told = {
        **os.environ,
        "PATH": PATH,
        "ADDRESS": f"{url}/events?from=beginning",
        "TOKEN": token("shop", ["events:read"]),
        "TYPES": ",".join(USER_EVENTS.types()),
    }
    with out.open("wb") as written:
        # A wheel's `node` is a program that starts Node.
        client = await asyncio.create_subprocess_exec(
            "node", "--input-type=module", "-e", PROGRAM, cwd=FOLDER, env=told, stdout=written, start_new_session=True
        )
        try:
            yield
            assert client.returncode is None, "it goes on"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(client.pid, signal.SIGKILL)
            await client.wait()


@pytest.fixture(scope="module", autouse=True)
def eventsource() -> None:
    """Before any server is started."""
    require("eventsource")


async def test_a_foreign_client_gets_each_event_once_over_a_restart(
    kafka: Kafka, topics: Topics, publisher: Publisher, tmp_path: Path
) -> None:
    records, out = lives(20, 100, seed=4), tmp_path / "out.txt"
    port, ops_port = free_ports(2)
    told = {
        **{name: value for name, value in os.environ.items() if not name.startswith("KAFKA")},
        **variables(kafka, topics),
        "EVENT_API_PORT": str(port),
        "EVENT_API_OPS_PORT": str(ops_port),
    }

    async def half_came() -> bool:
        return len(out.read_bytes().splitlines()) >= 60

    async def all_came() -> bool:
        return len(out.read_bytes().splitlines()) >= len(records)

    async with AsyncExitStack() as client:
        async with running(told, "serve", "events", port=port):
            await client.enter_async_context(following(f"http://127.0.0.1:{port}", out))
            await publisher.publish(records[:60])
            await until(half_came, within=120, what="the first events")
        await publisher.publish(records[60:])
        async with running(told, "serve", "events", port=port):
            await until(all_came, within=120, what="the others, after it came back")

    sent = [Sent(**json.loads(line)) for line in out.read_text().splitlines()]
    assert versions(sent) == expected(records)
