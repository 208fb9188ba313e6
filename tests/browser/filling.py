"""Fills a stack with what pages show: people and what happened to them, subscribers, a record that is parked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx

from chassis.settings import Kafka
from events.user_events import UserProfileChanged, UserRegistered
from tests.acceptance.stack import Stack
from tests.integration.projectors.stream import FakeRecord, Publisher, new_user, record
from tests.waiting import until

TOPIC: Final = "users.events"
#: On a loaded machine.
SECONDS: Final = 120
_AT_ONCE: Final = 4
_NAMES: Final = (
    *("Ada Lovelace", "Grace Hopper", "Edsger Dijkstra", "Barbara Liskov", "Donald Knuth", "Radia Perlman"),
    *("Leslie Lamport", "Frances Allen", "Tony Hoare", "Margaret Hamilton", "Ken Thompson", "Hedy Lamarr"),
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
)


@dataclass(frozen=True, slots=True)
class Filled:
    """What there is now."""

    users: list[str]
    #: One with a long history.
    changed: str
    erased: str


class Clients:
    """The APIs of a stack, as an operator."""

    def __init__(self, stack: Stack, http: httpx.AsyncClient) -> None:
        self.stack, self.http = stack, http
        self.events_url = f"http://127.0.0.1:{stack.ports['events']}"

    async def command(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        answer = await self.http.request(method, f"{self.stack.command_url}{path}", json=body, headers=headers)
        return answer.raise_for_status()

    async def register(self, number: int) -> str:
        """A user; gives the id."""
        name = _NAMES[number % len(_NAMES)]
        username = f"{name.split()[0].lower()[:30]}-{number}"
        body = {
            "email": f"{username}@example.com",
            "username": username,
            "password": "correct horse battery",
            "display_name": name,
        }
        return str((await self.command("POST", "/users", body)).json()["id"])

    async def visible(self, user: str) -> None:
        """Return once the read side has the user."""

        async def is_there() -> bool:
            return (await self.http.get(f"{self.stack.query_url}/users/{user}")).status_code == 200

        await until(is_there, within=SECONDS, what="the user on the read side")

    async def position(self) -> str:
        """The end of the events."""
        params = {"from": "now"}
        answer = await self.http.get(f"{self.events_url}/events", params=params, headers={"Accept": "application/json"})
        return str(answer.raise_for_status().json()["next"])

    async def subscribe(self, name: str, position: str | None) -> None:
        """Register a subscriber, and say how far it is."""
        (await self.http.post(f"{self.events_url}/subscribers", json={"name": name})).raise_for_status()
        if position is not None:
            answer = await self.http.put(f"{self.events_url}/subscribers/{name}/position", json={"position": position})
            answer.raise_for_status()


@asynccontextmanager
async def clients(stack: Stack) -> AsyncIterator[Clients]:
    """Clients until the block ends."""
    async with httpx.AsyncClient(headers=stack.bearer, timeout=60, trust_env=False) as http:
        yield Clients(stack, http)


async def fill(stack: Stack, people: int) -> Filled:
    """People, changes, an erasure, and subscribers of whom some have not read it."""
    async with clients(stack) as api:
        users = await _register(api, people)
        changed, erased = users[0], users[1]
        await _change(api, changed)
        await api.command("POST", f"/users/{users[2]}/deactivate", {"reason": "asked by phone"})
        await api.visible(users[-1])
        before = await api.position()
        await api.command("DELETE", f"/users/{erased}")
        await _erasure_is_known(api, erased)
        for name, position in (("search-index", await api.position()), ("mailer", before), ("data-warehouse", None)):
            await api.subscribe(name, position)
    return Filled(users, changed, erased)


async def _register(api: Clients, people: int) -> list[str]:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> str:
        async with turns:
            return await api.register(number)

    return await asyncio.gather(*map(one, range(people)))


async def _change(api: Clients, user: str) -> None:
    path = f"/users/{user}"
    await api.command("PUT", f"{path}/email", {"email": "countess@example.com"})
    await api.command("POST", f"{path}/deactivate", {"reason": "lost her laptop"})
    await api.command("POST", f"{path}/reactivate", {"reason": "found it again"})


async def _erasure_is_known(api: Clients, user: str) -> None:
    async def has_receipt() -> bool:
        return (await api.http.get(f"{api.events_url}/erasures/{user}")).status_code == 200

    await until(has_receipt, within=SECONDS, what="the receipt of the erasure")


async def park(stack: Stack) -> None:
    """A record of ours that nobody can read, and a good one of the same user behind it."""
    person = new_user(1)
    good = record(UserRegistered(user=person))
    later = person.model_copy(update={"version": 2, "display_name": "Ann"})
    await _publish(
        stack,
        FakeRecord(good.key, b'{"user": <script>alert(1)</script>', good.headers),
        record(UserProfileChanged(user=later, previous={"display_name": None})),
    )

    async def is_parked() -> bool:
        _, said, _ = await stack.muster("parked", "list")
        return str(person.id) in said

    await until(is_parked, within=SECONDS, what="the parked record")


async def publish_stranger(stack: Stack) -> None:
    """A user of whom the command side knows nothing: a rebuild of `users` differs from it."""
    await _publish(stack, record(UserRegistered(user=new_user(2))))


async def _publish(stack: Stack, *records: FakeRecord) -> None:
    kafka = Kafka(_env_file=None, **stack.environment())  # type: ignore[arg-type] # by their variables' names
    async with Publisher.open(kafka, TOPIC) as publisher:
        await publisher.publish(records)
