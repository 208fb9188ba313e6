"""What a route works with, handed to it by FastAPI; tests put theirs in place with `app.dependency_overrides`.

A command borrows one connection at a time and its transaction is committed, or rolled back, inside the handler: before
the route has an answer to give. FastAPI runs a dependency's code after `yield` only when the answer has left, so a
commit there would come too late: the client would hold a 201 for what was never stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Request

from chassis.clock import utc_now
from chassis.http.api import malformed_header
from chassis.identifiers import new_id, new_id_text
from chassis.postgres.database import Database
from chassis.telemetry import request_id
from command_api.causes import Cause, valid_traceparent
from command_api.idempotency.replay import InvalidKeyError, Keys, Turns
from command_api.imports.handlers import ImportHandlers
from command_api.imports.store import ImportStore
from command_api.passwords.hashing import Passwords
from command_api.preconditions import InvalidPreconditionError, Precondition
from command_api.settings import CommandApiSettings
from command_api.users.handlers import CommandContext, UserHandlers
from command_api.users.store import UserStore
from outbox.notifier import Notifier

APPLICATION: Final = "muster command API"
#: Other commands hold a user's row for milliseconds. Who waits longer is better told to come back than kept waiting.
LOCK_TIMEOUT: Final = "2s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Everything that is opened once a process."""

    database: Database
    handlers: UserHandlers
    imports: ImportHandlers
    keys: Keys


@asynccontextmanager
async def open_resources(settings: CommandApiSettings) -> AsyncIterator[Resources]:
    """Open them; this succeeds while the database is down, and what needs it works as soon as it is there."""
    async with AsyncExitStack() as stack:
        address = settings.command_database
        database = await stack.enter_async_context(
            Database.open(address, application=APPLICATION, lock_timeout=LOCK_TIMEOUT)
        )
        notifier = await stack.enter_async_context(Notifier.open(address, enabled=settings.outbox_notify))
        passwords = stack.enter_context(Passwords.open(settings))
        yield Resources(
            database=database,
            handlers=UserHandlers(
                store=UserStore(database),
                passwords=passwords,
                notifier=notifier,
                clock=utc_now,
                new_id=new_id,
                query_url=settings.public_query_url,
                turns=Turns(),
            ),
            imports=ImportHandlers(
                store=ImportStore(database), passwords=passwords, notifier=notifier, clock=utc_now, new_id=new_id
            ),
            keys=Keys(settings.idempotency_secret.get_secret_value()),
        )


async def resources(request: Request) -> Resources:
    """What the lifespan opened."""
    opened: Resources = request.app.state.resources
    return opened


async def handlers(opened: Annotated[Resources, Depends(resources)]) -> UserHandlers:
    """The way of every command to its commit."""
    return opened.handlers


async def imports(opened: Annotated[Resources, Depends(resources)]) -> ImportHandlers:
    """The way of every import."""
    return opened.imports


async def command_context(request: Request, opened: Annotated[Resources, Depends(resources)]) -> CommandContext:
    """What came with the command in its headers.

    Raises:
        Problem: 400, where If-Match or Idempotency-Key cannot be read.
    """
    key = _joined(request, "idempotency-key")
    return make_context(
        opened.keys,
        traceparent=request.headers.get("traceparent"),
        if_match=_joined(request, "if-match"),
        key=key,
        request=(request.method, _canonical_path(request), b"" if key is None else await request.body()),
    )


def make_context(
    keys: Keys, *, traceparent: str | None, if_match: str | None, key: str | None, request: tuple[str, str, bytes]
) -> CommandContext:
    """What these headers say; `request` is the method, the path with ids in one form, and the body.

    Raises:
        Problem: 400, where If-Match or Idempotency-Key cannot be read.
    """
    cause = Cause(command_id=new_id_text(), correlation_id=request_id.get(), traceparent=valid_traceparent(traceparent))
    try:
        precondition = None if if_match is None else Precondition.parse(if_match)
    except InvalidPreconditionError as error:
        raise malformed_header("If-Match", str(error)) from error
    if key is None:
        return CommandContext(cause=cause, precondition=precondition)
    method, path, body = request
    try:
        made = keys.make(key, method=method, path=path, body=body, if_match=if_match)
    except InvalidKeyError as error:
        raise malformed_header("Idempotency-Key", str(error)) from error
    return CommandContext(cause=cause, precondition=precondition, key=made)


def _joined(request: Request, name: str) -> str | None:
    """A header that may come in several lines (RFC 9110, section 5.3)."""
    return ", ".join(request.headers.getlist(name)) if name in request.headers else None


def _canonical_path(request: Request) -> str:
    """The path with ids in one form: a UUID may be written in several."""
    path: str = request.scope["route"].path
    return path.format(**{name: _canonical(value) for name, value in request.path_params.items()})


def _canonical(value: str) -> str:
    try:
        return str(UUID(value))
    except ValueError:
        return value  # refused with a 422 in a moment


Handlers = Annotated[UserHandlers, Depends(handlers)]
Imports = Annotated[ImportHandlers, Depends(imports)]
Context = Annotated[CommandContext, Depends(command_context)]
