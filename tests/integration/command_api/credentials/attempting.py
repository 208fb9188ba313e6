"""Attempts at passwords as clients make them, and what they cost."""

from typing import Any
from uuid import UUID

import bcrypt
import httpx
from prometheus_client import REGISTRY

from command_api.credentials.keys import CredentialKeys
from tests.integration.command_api.conftest import SECRET

PASSWORD = "ann's password"
MARK = CredentialKeys.derive([SECRET]).mark


async def log_in(
    api: httpx.AsyncClient, identifier: str = "ann", password: str = PASSWORD, **more: Any
) -> httpx.Response:
    return await api.post("/credentials/verify", json={"identifier": identifier, "password": password, **more})


async def device_of(api: httpx.AsyncClient, identifier: str = "ann", password: str = PASSWORD) -> str:
    """Log in, and give the device token."""
    answer = await log_in(api, identifier, password)
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["device_token"]
    return token


def foreign_hash(password: str) -> str:
    """As an import may bring it."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def hashes() -> float:
    """Hashes that were computed to check a password, of ours and of others."""
    named = ({"form": form} for form in ("own", "foreign"))
    return sum(REGISTRY.get_sample_value("muster_password_checks_total", labels) or 0 for labels in named)


async def change(
    api: httpx.AsyncClient,
    user: dict[str, Any],
    current: str | None,
    *,
    password: str = "another of ann's",
    headers: dict[str, str] | None = None,
    **more: Any,
) -> httpx.Response:
    body = {"password": password, "current_password": current, **more}
    return await api.put(f"/users/{UUID(user['id'])}/password", json=body, headers=headers)
