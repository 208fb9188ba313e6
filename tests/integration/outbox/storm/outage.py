"""A broker that is away while commands go on: none fails, nothing acknowledged is lost, and nobody needs to help.

The real command API takes changes at a steady rate, the relay runs, the broker is killed and comes back after a while.
CI waits ten seconds, `make storm` five minutes.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from tests.integration.command_api.processes import ApiProcess, api_process
from tests.integration.outbox.private_servers import Private
from tests.integration.outbox.relaying import relaying
from tests.integration.outbox.traffic import Comparison, consume, until_empty

USERS: Final = 20
#: Commands a second.
RATE: Final = 100
#: The relay's longest pause between two tries is 5 s; what has gathered goes out at tens of thousands a second.
RECOVERY_SECONDS: Final = 60


@dataclass(slots=True)
class Outcome:
    """What the commands were answered, and what a read_committed consumer found afterwards."""

    answers: Counter[int] = field(default_factory=Counter)
    #: Commands that were told to come later, as on a machine that is busy with others: nothing was promised of them.
    put_off: int = 0
    lost: int = 0
    repeated: int = 0
    events: int = 0
    gathered: int = 0
    #: Events a second that came in, and that went out once the relay could publish again.
    arrival_rate: float = 0.0
    drain_rate: float = 0.0

    @property
    def acknowledged(self) -> int:
        """Commands that were done, as their clients were told."""
        return sum(count for status, count in self.answers.items() if 200 <= status < 300)

    @property
    def refused(self) -> int:
        """Commands that were neither done nor put off."""
        return self.answers.total() - self.acknowledged

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        clean = (self.refused, self.lost, self.repeated) == (0, 0, 0)
        return clean and self.gathered > 0 and self.drain_rate >= 5 * self.arrival_rate


class Outage:
    """One outage of private servers' broker."""

    def __init__(self, private: Private, seconds: float) -> None:
        self._private = private
        self._seconds = seconds
        self._begins: list[float] = []

    async def run(self) -> Outcome:
        """Take the broker away for the seconds, bring it back, wait until all is published, and look."""
        outcome, settings = Outcome(), self._private.settings
        async with (
            api_process(settings.command_database) as api,
            relaying(settings, failpoint=self._note),
            self._private.session() as session,
        ):
            urls = [await _register(api, number) for number in range(USERS)]
            await until_empty(session)
            await self._private.kafka.kill()
            began = time.monotonic()
            await _change(urls, self._seconds, outcome)
            outcome.gathered = await session.fetchval("SELECT count(*) FROM outbox")
            outcome.arrival_rate = outcome.gathered / (time.monotonic() - began)
            self._begins.clear()
            await self._private.kafka.start()
            await until_empty(session, within=RECOVERY_SECONDS)
            outcome.drain_rate = outcome.gathered / (time.monotonic() - self._begins[0])
            wanted = {str(row["id"]): row["version"] for row in await session.fetch("SELECT id, version FROM users")}
        found = Comparison.of((await consume(settings)).versions(), wanted)
        outcome.events, outcome.repeated = sum(wanted.values()), found.repeated
        # Each acknowledgement is one event beside the registrations.
        outcome.lost = found.lost + max(0, USERS + outcome.acknowledged - outcome.events)
        return outcome

    async def _note(self, point: str) -> None:
        if point == "before_begin":
            self._begins.append(time.monotonic())


async def _register(api: ApiProcess, number: int) -> str:
    document = {"email": f"u{number}@example.com", "username": f"user{number}", "password": "correct horse battery"}
    async with httpx.AsyncClient(base_url=api.url, trust_env=False) as client:
        answer = await client.post("/users", json=document)
    assert answer.status_code == 201, answer.text
    return f"{api.url}/users/{answer.json()['id']}/profile"


async def _change(urls: list[str], seconds: float, outcome: Outcome) -> None:
    """Change one user after the other at the rate; every answer is counted."""
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client, asyncio.TaskGroup() as group:
        started = time.monotonic()
        for number in range(int(seconds * RATE)):
            await asyncio.sleep(max(0.0, started + number / RATE - time.monotonic()))
            document = {"attributes": {"number": number}}
            group.create_task(_send(client, urls[number % len(urls)], document, outcome))


async def _send(client: httpx.AsyncClient, url: str, document: dict[str, Any], outcome: Outcome) -> None:
    answer = await client.patch(url, json=document)
    if answer.status_code == 503 and "Retry-After" in answer.headers:
        outcome.put_off += 1
    else:
        outcome.answers[answer.status_code] += 1
