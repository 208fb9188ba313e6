"""Bodies of imports, and what is answered to them."""

import json
from collections.abc import Iterable
from typing import Any

import httpx
from argon2 import PasswordHasher

from tests.issuing import bearer

HASH = PasswordHasher(memory_cost=8, time_cost=1, parallelism=1).hash("correct horse")
HEADERS = {"Content-Type": "application/x-ndjson"}


def line(name: str, **more: Any) -> dict[str, Any]:
    return {"email": f"{name}@example.com", "username": name, "password_hash": HASH, **more}


def body_of(lines: Iterable[dict[str, Any] | bytes]) -> bytes:
    return b"\n".join(item if isinstance(item, bytes) else json.dumps(item).encode() for item in lines) + b"\n"


async def send(
    api: httpx.AsyncClient, *lines: dict[str, Any] | bytes, caller: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    answer = await api.post("/users/import", content=body_of(lines), headers={**HEADERS, **(caller or {})})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(item) for item in answer.content.splitlines()]


def request_of(body: bytes, caller: str, more: bytes = b"") -> bytes:
    """The bytes of a request to import."""
    head = b"POST /users/import HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n" + more
    token = bearer(caller)["Authorization"].encode()
    return b"%bAuthorization: %b\r\nContent-Length: %d\r\n\r\n%b" % (head, token, len(body), body)
