"""What a command that succeeded answers: the same bytes whether it is answered now or replayed later."""

from __future__ import annotations

from uuid import UUID

from pydantic_core import to_json

from chassis.consistency import ConsistencyToken
from command_api.idempotency.replay import CommandAnswer
from events.user_events import PublicUser


def registered(user: PublicUser, query_url: str) -> CommandAnswer:
    """201, with the user's address on the query API."""
    return _with_user(201, user, Location=f"{query_url}/users/{user.id}")


def changed(user: PublicUser) -> CommandAnswer:
    """200, with the user after the command."""
    return _with_user(200, user)


def done(user_id: UUID, version: int) -> CommandAnswer:
    """204: there is nothing to show."""
    return CommandAnswer(204, _headers(user_id, version))


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def _with_user(status: int, user: PublicUser, **more: str) -> CommandAnswer:
    return CommandAnswer(status, {**_headers(user.id, user.version), **more}, to_json(user))


def _headers(user_id: UUID, version: int) -> dict[str, str]:
    return {"ETag": etag(version), "Consistency-Token": ConsistencyToken(user_id, version).encode()}
