"""Welcomes by mail whoever registers, with FastStream; mails are printed. See docs/how-to/send-welcome-mails.md."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from faststream import AckPolicy, Context, ContextRepo, ExceptionMiddleware, Header
from faststream.asgi import AsgiFastStream, make_ping_asgi
from faststream.exceptions import NackMessage
from faststream.kafka import KafkaBroker
from faststream.security import SASLScram512
from faststream.specification import AsyncAPI
from muster_events import User
from pydantic import BaseModel

NAME: Final = "welcome-mail"  # of our login and our consumer group, and how that of our own topic begins
NEWCOMER: Final = timedelta(days=1)  # who is older was imported, or there before this service
RETRY_SECONDS: Final = 5.0  # after which what is away is tried again; who comes later waits, too
READ: Final = ("ce_id", "ce_type", "ce_subject", "content-type")


async def parse(record: Any, as_usual: Callable[[Any], Awaitable[Any]]) -> Any:
    """Leaves out headers that are not read here: they may hold any bytes, or none, at which FastStream fails."""
    shown, ours = copy(record), ("ce_source", b"/muster/users") in record.headers  # others may write to the topic
    shown.headers = [(name, value) for name, value in record.headers if ours and name in READ and value is not None]
    message = await as_usual(shown)
    message.raw_message = record  # as it came, for the dead letters
    return message


server, user = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"), os.environ.get("KAFKA_SASL_USERNAME")
login = SASLScram512(user, os.environ["KAFKA_SASL_PASSWORD"], use_ssl=False) if user else None  # True over a network
errors = ExceptionMiddleware()
broker = KafkaBroker(server, security=login, middlewares=[errors], parser=parse, allow_auto_create_topics=False)
events = broker.subscriber(
    os.environ.get("EVENTS_TOPIC", "users.events"), group_id=NAME, auto_offset_reset="earliest",
    isolation_level="read_committed", ack_policy=AckPolicy.NACK_ON_ERROR,  # every other one goes on behind a failure
)  # fmt: skip
dead_letters = broker.publisher(f"{NAME}.dead-letters", schema=bytes, description="Records that cannot be read.")


@asynccontextmanager
async def lifespan(context: ContextRepo) -> AsyncIterator[None]:
    with closing(sqlite3.connect(os.environ.get("WELCOME_MAIL_FILE", f"{NAME}.sqlite"), isolation_level=None)) as seen:
        seen.execute("CREATE TABLE IF NOT EXISTS seen (user_id TEXT PRIMARY KEY, version INTEGER)")
        context.set_global("seen", seen)
        yield


health, about = ("/health", make_ping_asgi(broker, timeout=2.0)), AsyncAPI(title="Welcome mails", version="1")
app = AsgiFastStream(broker, lifespan=lifespan, asgi_routes=[health], specification=about, asyncapi_path="/asyncapi")
Seen = Annotated[sqlite3.Connection, Context(cast=False)]


class Registered(BaseModel):
    user: User  # the kit's, which ignores what a later Muster adds


@events(filter=lambda message: message.headers.get("ce_type") == "muster.user.registered.v1")
async def welcome(registered: Registered, event_id: Annotated[str, Header("ce_id")], seen: Seen) -> None:
    """Writes to a newcomer, once: `seen` has the greatest version that was dealt with, of each user."""
    user, row = registered.user, (str(registered.user.id), registered.user.version)
    if seen.execute("SELECT 1 FROM seen WHERE user_id = ? AND version >= ?", row).fetchone():
        return
    if datetime.now(UTC) - user.created_at < NEWCOMER:
        print(f"To: {user.email}\nMessage-ID: <{event_id}@{NAME}>\nSubject: Welcome, {user.username}!\n", flush=True)
    seen.execute("INSERT OR REPLACE INTO seen VALUES (?, ?)", row)


@events(filter=lambda message: message.headers.get("ce_type") == "muster.user.erased.v1", decoder=lambda _: None)
async def forget(user_id: Annotated[str, Header("ce_subject")], seen: Seen) -> None:
    seen.execute("DELETE FROM seen WHERE user_id = ?", (user_id,))


@events(decoder=lambda _: None)  # of no interest
async def other() -> None:
    """All else that happens to users is not this service's business."""


@errors.add_handler(ValueError)
async def set_aside(error: ValueError, message: Annotated[Any, Context()]) -> None:
    """What cannot be read will never be: it goes to our own topic as it came, and nobody waits behind it."""
    record = getattr(message, "raw_message", message)
    place = f"{record.topic}:{record.partition}:{record.offset}"
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    headers |= {"dead-letter-from": place, "dead-letter-error": type(error).__name__}
    await dead_letters.publish(record.value, key=record.key, headers=headers)


@errors.add_handler(sqlite3.OperationalError)
@errors.add_handler(OSError)
async def wait(error: Exception) -> None:
    """What is away, or full, or locked, comes back: the same event again, a little later."""
    await asyncio.sleep(RETRY_SECONDS)
    raise NackMessage from error
