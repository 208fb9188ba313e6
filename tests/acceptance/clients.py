"""What a client does: register over HTTP, read back with the token."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from tests.acceptance.stack import Stack


@dataclass(frozen=True, slots=True)
class Registered:
    """A user that the command API has accepted."""

    id: str
    token: str
    location: str
    document: dict[str, Any]
    bearer: dict[str, str]


async def register(http: httpx.AsyncClient, stack: Stack) -> Registered:
    """Register a user with a name of their own; fails unless the answer is 201."""
    name = f"user-{uuid4().hex[:16]}"
    body = {"email": f"{name}@example.com", "username": name, "password": "correct horse"}
    answer = await http.post(f"{stack.command_url}/users", json=body, headers=stack.bearer)
    assert answer.status_code == 201, answer.text
    document = answer.json()
    token, location = answer.headers["Consistency-Token"], answer.headers["Location"]
    return Registered(document["id"], token, location, document, stack.bearer)


async def read(http: httpx.AsyncClient, user: Registered, wait: int = 10) -> httpx.Response:
    """Read a user from the query API, waiting until the registration is there."""
    headers = {**user.bearer, "Consistency-Token": user.token, "Prefer": f"wait={wait}"}
    return await http.get(user.location, headers=headers)
