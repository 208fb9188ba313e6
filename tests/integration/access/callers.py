"""Callers of every kind: those that must not come in, whatever the route, and those that may."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import httpx

from chassis.access.rules import Rule
from chassis.identifiers import new_id
from chassis.postgres.pool import Pool
from cli.access.scopes import SCOPES
from tests.issuing import bearer

LATER: Final = 4_000_000_000
STRANGER: Final = new_id()


def unauthenticated(rule: Rule) -> dict[str, dict[str, str]]:
    """Headers that are nobody's, though the scope would do."""
    how: dict[str, dict[str, Any]] = {
        "expired": {"lifetime": timedelta(hours=-1)},
        "not yet valid": {"nbf": LATER},
        "wrong issuer": {"iss": "https://evil.example"},
        "wrong audience": {"aud": "another"},
    }
    return {
        "garbage": {"Authorization": "Bearer garbage"},
        **{name: bearer("shop", rule.scopes, **claims) for name, claims in how.items()},
    }


def insufficient(rule: Rule, user_id: UUID) -> dict[str, dict[str, str]]:
    """Headers of callers who are known and have not the scope."""
    others = [scope for scope in SCOPES if scope not in rule.scopes]
    found = {
        "no scope": bearer("shop", ()),
        "wrong scope": bearer("shop", ["email", "openid"]),
        "all others": bearer("shop", others),
        **{f"only {scope}": bearer("shop", [scope]) for scope in others},
    }
    if not rule.own:
        found |= {"own self": bearer(str(user_id), ["self"]), "other's self": bearer(str(STRANGER), ["self"])}
    return found


class Unread:
    """A body that must not be asked for."""

    def __aiter__(self) -> "Unread":
        return self

    async def __anext__(self) -> bytes:
        raise AssertionError("the body was read before access was decided")


async def send(api: httpx.AsyncClient, rule: Rule, path: str, headers: dict[str, str], **how: Any) -> httpx.Response:
    """The request of a rule, with these headers and no others' token."""
    made = api.build_request(rule.method, path, headers=headers, **how)
    if "Authorization" not in headers:
        made.headers.pop("authorization", None)
    return await api.send(made)


async def assert_refused(api: httpx.AsyncClient, rule: Rule, path: str, user_id: UUID) -> None:
    """Every caller who must not come in is told so, and nothing else, before the body is read."""
    body: dict[str, Any] = {} if rule.method in {"GET", "DELETE"} else {"content": Unread()}
    said = {"none": (await send(api, rule, path, {}, **body), 401, "Bearer")}
    for name, headers in unauthenticated(rule).items():
        body = {} if not body else {"content": Unread()}
        said[name] = (await send(api, rule, path, headers, **body), 401, 'Bearer error="invalid_token"')
    for name, headers in insufficient(rule, user_id).items():
        body = {} if not body else {"content": Unread()}
        challenge = f'Bearer error="insufficient_scope", scope="{rule.scope}"'
        said[name] = (await send(api, rule, path, headers, **body), 403, challenge)
    for name, (answer, status, challenge) in said.items():
        assert (answer.status_code, answer.headers["www-authenticate"]) == (status, challenge), name
        assert answer.json()["type"] == f"/problems/{'forbidden' if status == 403 else 'unauthenticated'}", name


def shape(answer: httpx.Response, user_id: UUID) -> tuple[int, list[tuple[str, str]], str]:
    """An answer without what differs between any two: ids and times."""
    known = {answer.headers.get("x-request-id", ""): "REQUEST", str(user_id): "USER"}
    texts = [answer.text, *(f"{value}" for value in answer.headers.values())]
    for found, name in known.items():
        texts = [text.replace(found, name) if found else text for text in texts]
    return answer.status_code, list(zip(answer.headers, texts[1:], strict=True)), texts[0]


async def statements(pool: Pool, asked: Awaitable[object]) -> list[str]:
    """What was sent to the database for a request: it takes as long as that takes."""
    sent: list[str] = []

    def note(record: Any) -> None:
        # What a process asks by itself has no parameters; and the driver asks each new connection for types.
        if record.args and "typeinfo_tree" not in record.query:
            sent.append(record.query)

    connections = set(pool._open)
    for connection in connections:
        connection.add_query_logger(note)
    await asked
    await asyncio.sleep(0)  # the driver tells of a statement in the loop's next turn
    for connection in connections:
        connection.remove_query_logger(note)
    assert pool._open.keys() == connections, "none was opened meanwhile"
    return sent
