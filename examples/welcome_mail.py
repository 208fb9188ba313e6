"""Welcomes by mail whoever registers, with FastStream; mails are printed. See docs/how-to/send-welcome-mails.md.

Run it beside `make up`, as the how-to says:  .venv/bin/faststream run examples.welcome_mail:app --port 8090
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
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

#: Our consumer group, and how the name of our own topic begins: the login at the brokers has this name, too.
NAME: Final = "welcome-mail"
#: Who registered before that is no newcomer: an imported user, or one who was there before this service.
NEWCOMER: Final = timedelta(days=1)
#: A mail server that is away is tried again after so long; who comes later waits, too.
RETRY_SECONDS: Final = 5.0

server, user = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"), os.environ.get("KAFKA_SASL_USERNAME")
login = SASLScram512(user, os.environ["KAFKA_SASL_PASSWORD"], use_ssl=False) if user else None  # True over a network
errors = ExceptionMiddleware()
broker = KafkaBroker(server, security=login, middlewares=[errors], allow_auto_create_topics=False)
events = broker.subscriber(
    os.environ.get("EVENTS_TOPIC", "users.events"),
    group_id=NAME,
    auto_offset_reset="earliest",
    isolation_level="read_committed",
    ack_policy=AckPolicy.NACK_ON_ERROR,  # every other one goes on behind an event that failed
)
dead_letters = broker.publisher(f"{NAME}.dead-letters", schema=bytes, description="Records that cannot be read.")


@asynccontextmanager
async def lifespan(context: ContextRepo) -> AsyncIterator[None]:
    """The greatest version that was dealt with, by user: an event that is not newer has come before."""
    with closing(sqlite3.connect(os.environ.get("WELCOME_MAIL_FILE", f"{NAME}.sqlite"), isolation_level=None)) as seen:
        seen.execute("CREATE TABLE IF NOT EXISTS seen (user_id TEXT PRIMARY KEY, version INTEGER)")
        context.set_global("seen", seen)
        yield


routes = [("/health", make_ping_asgi(broker, timeout=2.0))]
about = AsyncAPI(title="Welcome mails", version="1")
app = AsgiFastStream(broker, lifespan=lifespan, asgi_routes=routes, specification=about, asyncapi_path="/asyncapi")
Seen = Annotated[sqlite3.Connection, Context(cast=False)]


class Registered(BaseModel):
    """What is read of a registration; `User` is the kit's, which ignores what a later Muster adds."""

    user: User


@events(filter=lambda message: message.headers.get("ce_type") == "muster.user.registered.v1")
async def welcome(registered: Registered, event_id: Annotated[str, Header("ce_id")], seen: Seen) -> None:
    """Writes to a newcomer, once."""
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


@errors.add_handler(OSError)
async def wait(error: OSError) -> None:
    """What is away comes back: the same event again, a little later."""
    await asyncio.sleep(RETRY_SECONDS)
    raise NackMessage from error
