"""The users of this benchmark, and their requests."""

import itertools
from collections.abc import Callable
from typing import Final

import httpx

from benchmarks.running.load import request

PATH: Final = "/credentials/verify"
PASSWORD: Final = "the password of every user here"  # noqa: S105 - of a benchmark
#: More than clients, so that no two of them wait for one another.
USERS: Final = 40


async def register(client: httpx.AsyncClient, kind: str, count: int) -> None:
    """Register users of a kind, and make them what it says."""
    for number in range(count):
        name = f"{kind}{number}"
        body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
        user = (await client.post("/users", json=body)).raise_for_status().json()["id"]
        if kind == "deactivated":
            (await client.post(f"/users/{user}/deactivate")).raise_for_status()
        if kind == "erased":
            (await client.delete(f"/users/{user}")).raise_for_status()


def login(name: str, password: str = PASSWORD) -> bytes:
    """The bytes of one request."""
    return request(PATH, method="POST", document={"identifier": name, "password": password})


def logins(first: int = 0) -> Callable[[], bytes]:
    """Requests with the right password, of one user after the other."""
    around = itertools.cycle([login(f"known{number}") for number in range(first, USERS)])
    return lambda: next(around)
