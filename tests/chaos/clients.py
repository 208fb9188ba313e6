"""Clients of the APIs: they change users, read them back with tokens, walk through lists, and note all that they see.

Half of their commands have an Idempotency-Key and are sent again until an answer says what became of them. The others
are sent once, so that what was not answered stays unknown. A third of the changes are for one version (If-Match), now
and then for one that there is not. Some users belong to everybody, so that clients meet. One follows the events.
"""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Self
from uuid import uuid4

import httpx

from tests.chaos.history import Command, Document, History, Read, Told, Walk
from tests.event_streams import EventStream

#: Longer than the slowest answer that is promised: an import's, which no client sends here.
ANSWER_SECONDS: Final = 20.0
#: The event API says something every 15 s.
SILENT_SECONDS: Final = 30.0
#: For how long a command with a key is sent again.
INSIST_SECONDS: Final = 90.0
#: How often a client that was answered sends the same again, as one does who has lost the answer.
REPEATS: Final = 0.15
#: Between two tries, and at most between two commands or lists of one client: the machine is for the processes.
RETRY_SECONDS: Final = 0.2
PACE_SECONDS: Final = 0.05
WALK_PACE_SECONDS: Final = 1.0
#: How many users a client goes on changing, and how many all clients share.
OWN_USERS: Final = 12
SHARED_USERS: Final = 8
#: Names that all want, so that most of them are refused.
WANTED_NAMES: Final = 2
#: How often each is chosen.
KINDS: Final = {
    "register": 12,
    "profile": 40,
    "email": 10,
    "username": 6,
    "password": 4,
    "deactivate": 8,
    "reactivate": 8,
    "erase": 6,
}
METHODS: Final = {"profile": "PATCH", "email": "PUT", "username": "PUT", "password": "PUT", "erase": "DELETE"}
SORTS: Final = ("created_at", "-created_at", "username", "email")


@dataclass(slots=True)
class KnownUser:
    """A user as a client knows it."""

    id: str
    version: int
    token: str


@dataclass(slots=True)
class World:
    """What all clients share: where the APIs are, who lets them in, what they note, and whether it is over."""

    command_url: str
    query_url: str
    events_url: str
    bearer: dict[str, str]
    history: History = field(default_factory=History)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    shared: list[KnownUser] = field(default_factory=list)
    #: Ends every name, so that no two runs on one stack use the same.
    run: str = field(default_factory=lambda: uuid4().hex[:6])


class Client:
    """One client; it does one thing after the other."""

    def __init__(self, world: World, number: int, seed: int) -> None:
        """The same seed makes the same choices."""
        self._world = world
        self._number = number
        self._rng = random.Random(seed * 1000 + number)
        self._count = 0
        self._users: list[KnownUser] = []
        self._http = httpx.AsyncClient(trust_env=False, timeout=ANSWER_SECONDS, headers=world.bearer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def write(self) -> None:
        """Send commands until it is over, and read half of their effects back."""
        while not self._world.over.is_set():
            await self._one_change()
            await asyncio.sleep(self._rng.uniform(0, PACE_SECONDS))

    async def walk(self) -> None:
        """Read lists to their ends until it is over."""
        while not self._world.over.is_set():
            await self._walk(self._rng.choice(SORTS), self._rng.randint(5, 40))
            await asyncio.sleep(self._rng.uniform(0, WALK_PACE_SECONDS))

    async def register(self) -> KnownUser | None:
        """Register a user; None where it was not acknowledged."""
        name = f"{self._number}-{self._count}-{self._world.run}"
        body = {"email": f"{name}@example.com", "username": f"user-{name}", "password": "correct horse"}
        return await self.command("register", None, body, insist=self._rng.random() < 0.5)

    async def command(
        self,
        kind: str,
        user: KnownUser | None,
        body: dict[str, Any] | None,
        *,
        insist: bool,
        expected: int | None = None,
    ) -> KnownUser | None:
        """Send a command and give the user after it; `insist` sends it with a key until its outcome is known."""
        self._count += 1
        name = f"chaos-{self._number}-{self._count}-{self._world.run}"
        headers = {"X-Request-Id": name} | ({"Idempotency-Key": name} if insist else {})
        headers |= {"If-Match": f'"{expected}"'} if expected is not None else {}
        deadline = time.monotonic() + INSIST_SECONDS
        while True:
            one, token = await self._try(kind, name, user, headers, body, expected)
            if one.accepted:
                if insist and self._rng.random() < REPEATS:
                    await self._try(kind, name, user, headers, body, expected)
                return KnownUser(str(one.user), one.version or 0, token)
            if not insist or (one.refused and one.status != 503) or time.monotonic() > deadline:
                return None
            await asyncio.sleep(RETRY_SECONDS)

    async def _try(  # noqa: PLR0917 - what a try consists of
        self,
        kind: str,
        name: str,
        user: KnownUser | None,
        headers: dict[str, str],
        body: dict[str, Any] | None,
        expected: int | None,
    ) -> tuple[Command, str]:
        """Send it once and note it; gives the token of an acknowledgement, too."""
        url = f"{self._world.command_url}/users" + (f"/{user.id}{_path(kind)}" if user else "")
        method = METHODS.get(kind, "POST")
        one = Command(
            name, kind, self._number, time.monotonic(), 0.0, None, user.id if user else None, expected=expected
        )
        token = ""
        try:
            answer = await self._http.request(method, url, json=body, headers=headers)
            one, token = _outcome(one, answer), answer.headers.get("Consistency-Token", "")
        except httpx.HTTPError:
            pass  # nobody knows what became of it, and so it is noted
        finally:
            one = replace(one, ended=time.monotonic())
            self._world.history.commands.append(one)
        return one, token

    async def _one_change(self) -> None:
        kind = self._rng.choices([*KINDS], [*KINDS.values()])[0]
        known = self._world.shared if self._rng.random() < 0.3 else self._users
        if kind == "register" or not known:
            if user := await self.register():
                self._keep(user)
                await self._look_back(user)
            return
        user = self._rng.choice(known)
        expected = (
            self._rng.choice((user.version, user.version, user.version + 1)) if self._rng.random() < 0.3 else None
        )
        after = await self.command(kind, user, self._body(kind), insist=self._rng.random() < 0.5, expected=expected)
        if after is None:
            return
        if kind == "erase" and user in known:
            known.remove(user)
        if after.version > user.version:
            user.version, user.token = after.version, after.token
        if self._rng.random() < 0.5:
            await self._look_back(after)

    def _keep(self, user: KnownUser) -> None:
        """Among those of all, while they are few; else among one's own, where the oldest makes room."""
        if len(self._world.shared) < SHARED_USERS:
            self._world.shared.append(user)
        else:
            self._users = [*self._users[-OWN_USERS + 1 :], user]

    def _body(self, kind: str) -> dict[str, Any] | None:
        mark = f"{self._number}-{self._count}-{self._world.run}"
        match kind:
            case "profile":
                return {"display_name": f"Ada {mark}", "attributes": {"mark": mark}}
            case "email":
                return {"email": f"{mark}@example.org"}
            case "username":
                wanted = f"wanted-{self._rng.randrange(WANTED_NAMES)}-{self._world.run}"
                return {"username": self._rng.choice((f"name-{mark}", wanted, wanted.upper()))}
            case "password":
                return {"password": f"correct horse {mark}"}
            case "deactivate" | "reactivate":
                return {"reason": mark}
            case _:
                return None

    async def _look_back(self, user: KnownUser) -> None:
        await self.read(user, wait=self._rng.choice((1, 5)), in_list=self._rng.random() < 0.3)

    async def change_and_read(self, user: KnownUser) -> None:
        """Change a user, for as long as it takes, and read the change, for as long as that takes."""
        while (after := await self.command("profile", user, self._body("profile"), insist=True)) is None:
            continue
        while (await self.read(after, wait=10)).status != 200:  # noqa: ASYNC110 - nothing tells when the service is back
            await asyncio.sleep(RETRY_SECONDS)

    async def read(self, user: KnownUser, *, wait: int, in_list: bool = False) -> Read:
        """Read a user with its token."""
        user = replace(user)  # another client may change it while we wait
        headers = {"Consistency-Token": user.token, "Prefer": f"wait={wait}"}
        url = f"{self._world.query_url}/users" + (f"?id={user.id}" if in_list else f"/{user.id}")
        began = time.monotonic()
        try:
            answer = await self._http.get(url, headers=headers)
        except httpx.HTTPError:
            read = Read(self._number, user.id, user.version, began, time.monotonic(), None)
        else:
            read = _understood(answer, self._number, user, began)
        self._world.history.reads.append(read)
        return read

    async def _walk(self, sort: str, limit: int) -> None:
        """Read a list to its end; a page that does not come is asked for again, until it is over."""
        began, ids, place = time.monotonic(), list[str](), dict[str, str]()
        while not self._world.over.is_set():
            page = await self._page({"sort": sort, "limit": str(limit), **place})
            if page is None:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            ids += [one["id"] for one in page["data"]]
            if not page["has_more"]:
                self._world.history.walks.append(Walk(sort, began, time.monotonic(), tuple(ids)))
                return
            place = {"cursor": page["next_cursor"]}

    async def _page(self, parameters: dict[str, str]) -> dict[str, Any] | None:
        with suppress(httpx.HTTPError):
            answer = await self._http.get(f"{self._world.query_url}/users", params=parameters)
            if answer.status_code == 200:
                page: dict[str, Any] = answer.json()
                return page
        return None


class Follower:
    """Follows the events from the beginning, and comes back with the last position that it had."""

    def __init__(self, world: World) -> None:
        """Nothing is asked yet."""
        self._world = world
        self._position = ""
        self._begin()

    async def follow(self) -> None:
        """Until cancelled."""
        async with httpx.AsyncClient(trust_env=False, timeout=SILENT_SECONDS, headers=self._world.bearer) as http:
            while True:
                with suppress(httpx.HTTPError):
                    await self._connection(http)
                await asyncio.sleep(RETRY_SECONDS)

    def _begin(self) -> None:
        self._position = ""
        self._world.history.streams.append([])

    async def _connection(self, http: httpx.AsyncClient) -> None:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._position} if self._position else {})
        url = f"{self._world.events_url}/events?from=beginning"
        async with http.stream("GET", url, headers=headers) as answer:
            if answer.status_code == 410:
                self._begin()
            if answer.status_code != 200:
                return
            async for event in EventStream(answer):
                if event.json:  # nothing is told when it has caught up
                    self._world.history.streams[-1].append(_told(event.json))
                self._position = event.id


def _told(event: dict[str, Any]) -> Told:
    return Told(event["user_id"], event["version"], event["id"], event["type"])


def _outcome(sent: Command, answer: httpx.Response) -> Command:
    """What an answer says of the command that was sent."""
    one = replace(sent, status=answer.status_code)
    if not one.accepted:
        return replace(one, problem=_problem(answer), retry_after="Retry-After" in answer.headers)
    document: Document | None = answer.json() if answer.content else None
    user = sent.user or str((document or {})["id"])
    return replace(one, user=user, version=int(answer.headers["ETag"].strip('"')), document=document)


def _path(kind: str) -> str:
    return "" if kind == "erase" else f"/{kind}"


def _problem(answer: httpx.Response) -> str:
    """The last word of a problem's type; "not-a-problem" for anything else."""
    if "problem+json" not in answer.headers.get("Content-Type", ""):
        return "not-a-problem"
    return str(answer.json()["type"]).rpartition("/")[2]


def _understood(answer: httpx.Response, client: int, user: KnownUser, began: float) -> Read:
    """What a query's answer says of the user."""
    ended, came = time.monotonic(), time.time()
    status = answer.status_code
    document: Document | None = None
    if status == 200:
        shown = answer.json()
        document = next(iter(shown["data"]), None) if "data" in shown else shown
        status = 200 if document else 404
    as_of = answer.headers.get("As-Of") if answer.status_code == 200 else None
    return Read(
        *(client, user.id, user.version, began, ended, status),
        version=document["version"] if document else None,
        document=document,
        as_of=datetime.fromisoformat(as_of).timestamp() if as_of else None,
        came=came,
        problem=_problem(answer) if status >= 400 and answer.status_code != 200 else "",
        retry_after="Retry-After" in answer.headers,
    )
