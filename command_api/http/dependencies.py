"""Everything that a route works with, handed to it by FastAPI; tests replace it by `app.dependency_overrides`.

No dependency commits. FastAPI runs a dependency's code after `yield` only when the answer has left, so the client would
hold a 201 for what was never stored. A handler commits, or rolls back, before the route has an answer to give.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final

from argon2 import PasswordHasher
from fastapi import Depends, Request

from chassis.access.guard import access_of
from chassis.access.rates import Rate, RateLimit
from chassis.clock import utc_now
from chassis.http.problems import malformed_header
from chassis.identifiers import new_id
from chassis.postgres.database import ONE_PLAN, Database
from command_api.credentials.attempts.store import AttemptStore
from command_api.credentials.checks import PasswordChecks
from command_api.credentials.device_tokens import DeviceTokens
from command_api.credentials.one_time_tokens import OneTimeTokens
from command_api.credentials.token_store import TokenStore
from command_api.credentials.verification import LogIns
from command_api.http.headers import make_context
from command_api.idempotency.allowance import KeyAllowance
from command_api.idempotency.keys import Keys
from command_api.idempotency.replay import Turns
from command_api.imports.handlers import ImportHandlers
from command_api.imports.store import ImportStore
from command_api.passwords.blocklist import Blocklist
from command_api.passwords.hashing import Passwords
from command_api.passwords.policy import PasswordPolicy
from command_api.settings import CommandApiSettings
from command_api.users.context import CommandContext
from command_api.users.handlers import UserHandlers
from command_api.users.store import UserStore
from outbox.notifier import Notifier

APPLICATION: Final = "muster command API"
#: Other commands hold a user's row for milliseconds. A client that would wait longer, twice, is told to come back.
LOCK_TIMEOUT: Final = "1s"
#: The most that a transaction of a command may take; longer than LOCK_TIMEOUT, so that a lock is told from a silence.
#: With SETTLE_SECONDS (command_api/users/lost_replies.py) it keeps the promise of 5 s while PostgreSQL is frozen.
TRANSACTION_SECONDS: Final = 2.5
#: An answer to an Idempotency-Key is kept for so long, at least.
DAY_SECONDS: Final = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResources:
    """Everything that is opened once in a process."""

    database: Database
    handlers: UserHandlers
    imports: ImportHandlers
    one_time_tokens: OneTimeTokens
    log_ins: LogIns
    keys: Keys
    #: The attributes that a token with `self` may write.
    own_attributes: frozenset[str]


@asynccontextmanager
async def open_resources(settings: CommandApiSettings) -> AsyncIterator[CommandResources]:
    """Open them. This succeeds while the database is down; commands work as soon as it is there."""
    async with AsyncExitStack() as stack:
        address = settings.command_database
        database = await stack.enter_async_context(
            Database.open(
                address,
                application=APPLICATION,
                init=None,
                seconds=TRANSACTION_SECONDS,
                lock_timeout=LOCK_TIMEOUT,
                **ONE_PLAN,
            )
        )
        notifier = await stack.enter_async_context(Notifier.open(address, enabled=settings.outbox_notify))
        passwords = stack.enter_context(_passwords(settings))
        blocklist = stack.enter_context(Blocklist.open(settings.password_blocklist_file))
        policy = PasswordPolicy(blocklist, settings.password_min_length)
        checks = await stack.enter_async_context(_checks(settings, database, passwords))
        users = UserHandlers(
            store=UserStore(database),
            passwords=passwords,
            policy=policy,
            checks=checks,
            notifier=notifier,
            clock=utc_now,
            new_id=new_id,
            query_url=settings.public_query_url,
            turns=Turns(),
            allowance=KeyAllowance(
                unchanged=RateLimit("unchanged", Rate(settings.idempotency_unchanged_per_day, DAY_SECONDS)),
                changed=RateLimit("changed", Rate(settings.idempotency_changed_per_day, DAY_SECONDS)),
            ),
        )
        yield CommandResources(
            database=database,
            handlers=users,
            imports=ImportHandlers(
                store=ImportStore(database),
                passwords=passwords,
                policy=policy,
                notifier=notifier,
                clock=utc_now,
                new_id=new_id,
            ),
            one_time_tokens=OneTimeTokens(TokenStore(database), users),
            log_ins=LogIns(checks),
            keys=Keys(settings.idempotency_secret.get_secret_value()),
            own_attributes=settings.own_attributes,
        )


def _passwords(settings: CommandApiSettings) -> AbstractContextManager[Passwords]:
    hasher = PasswordHasher(
        time_cost=settings.argon2_time_cost,
        memory_cost=settings.argon2_memory_kib,
        parallelism=settings.argon2_parallelism,
    )
    return Passwords.open(hasher, threads=settings.hashing_concurrency, queue=settings.hashing_queue)


@asynccontextmanager
async def _checks(
    settings: CommandApiSettings, database: Database, passwords: Passwords
) -> AsyncIterator[PasswordChecks]:
    keys = settings.credential_keys
    lifetime = timedelta(days=settings.credentials_device_days)
    async with AttemptStore.open(database, keys, settings.attempt_limits) as attempts:
        yield PasswordChecks(
            keys=keys,
            attempts=attempts,
            passwords=passwords,
            device_tokens=DeviceTokens(keys, lifetime=lifetime, clock=utc_now),
        )


async def resources(request: Request) -> CommandResources:
    """Everything that the lifespan opened."""
    opened: CommandResources = request.app.state.resources
    return opened


async def handlers(opened: Annotated[CommandResources, Depends(resources)]) -> UserHandlers:
    """The handlers, which carry commands to their commits."""
    return opened.handlers


async def imports(opened: Annotated[CommandResources, Depends(resources)]) -> ImportHandlers:
    """The handlers that carry imports to their commits."""
    return opened.imports


async def one_time_tokens(opened: Annotated[CommandResources, Depends(resources)]) -> OneTimeTokens:
    """The part that issues and redeems tokens."""
    return opened.one_time_tokens


async def log_ins(opened: Annotated[CommandResources, Depends(resources)]) -> LogIns:
    """The part that verifies credentials."""
    return opened.log_ins


async def command_context(request: Request, opened: Annotated[CommandResources, Depends(resources)]) -> CommandContext:
    """The context of a command, from its headers.

    Raises:
        Problem: 400, where If-Match or Idempotency-Key cannot be read.
    """
    key = request.headers.get("idempotency-key")  # the transport refuses two
    return make_context(
        opened.keys,
        access=access_of(request.scope),
        traceparent=request.headers.get("traceparent"),
        if_match=_if_match(request),
        key=key,
        # An id may be written in either case, and nothing else of a path in any other.
        request=(request.method, request.scope["path"].lower(), b"" if key is None else await request.body()),
    )


async def secret_context(request: Request, opened: Annotated[CommandResources, Depends(resources)]) -> CommandContext:
    """The context of a request about secrets, which is about no version, and whose answer is never stored.

    Raises:
        Problem: 400, where an Idempotency-Key came.
    """
    if "idempotency-key" in request.headers:
        raise malformed_header("Idempotency-Key", "is not taken here, as nothing of this answer is kept; leave it out")
    return await import_context(request, opened)


async def import_context(request: Request, opened: Annotated[CommandResources, Depends(resources)]) -> CommandContext:
    """The context of an import, to which an Idempotency-Key and a version say nothing; its body is not read for it."""
    return make_context(
        opened.keys,
        access=access_of(request.scope),
        traceparent=request.headers.get("traceparent"),
        if_match=None,
        key=None,
        request=(request.method, request.url.path, b""),
    )


def _if_match(request: Request) -> str | None:
    """The list of tags, which may come in several lines (RFC 9110, section 5.3)."""
    return ", ".join(request.headers.getlist("if-match")) if "if-match" in request.headers else None


Handlers = Annotated[UserHandlers, Depends(handlers)]
Imports = Annotated[ImportHandlers, Depends(imports)]
Tokens = Annotated[OneTimeTokens, Depends(one_time_tokens)]
LogInsOfApp = Annotated[LogIns, Depends(log_ins)]
SecretContext = Annotated[CommandContext, Depends(secret_context)]
ImportContext = Annotated[CommandContext, Depends(import_context)]
Context = Annotated[CommandContext, Depends(command_context)]
