"""The event API as an ASGI application: `create_app` is uvicorn's factory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI

from chassis.http.api import ApiDescription, create_api, put_in_front
from chassis.http.health import Health, NotReadyError
from chassis.http.overload.admission import AT_ONCE, Admission
from chassis.http.protection import Protection
from chassis.identifiers import new_id_text
from chassis.settings import load
from chassis.tracing.process import ProcessTracer
from event_api.access import ACCESS
from event_api.http import erasures, events, openapi, receipts_openapi, subscribers
from event_api.http.catalogue import catalogue_route
from event_api.http.unavailability import answer_outages
from event_api.log.consuming import LogAwayError
from event_api.log.log import EventLog
from event_api.problems import EVENT_PROBLEMS
from event_api.receipts.receipts import Receipts
from event_api.settings import EventApiSettings
from event_api.users.messages import UserRecord

DESCRIPTION: Final = ApiDescription(
    title="Muster event API",
    summary="Streams the events of users over HTTP: from the beginning or from now on, each once, per user in order.",
    problems=EVENT_PROBLEMS,
)


def create_app(settings: EventApiSettings | None = None) -> FastAPI:
    """Make the app; nothing is opened before its lifespan begins.

    Raises:
        SettingsError: the environment lacks a setting, or does not say whose tokens open the API.
    """
    known = settings or load(EventApiSettings)
    protection = Protection(ACCESS, known, host=known.event_api_host)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            EventLog.open(
                known, known.events_topic, UserRecord, secrets=known.position_secrets, all_kept=known.all_kept
            ) as log,
            Receipts.open(
                known.receipt_keys, log, database=known.query_database, kafka=known, topics=known
            ) as receipts,
        ):
            app.state.log, app.state.receipts = log, receipts
            yield

    async def kafka_answers() -> None:
        log: EventLog | None = getattr(app.state, "log", None)
        if log is None:
            raise NotReadyError("starting")
        try:
            log.require()
        except LogAwayError as error:
            raise NotReadyError(str(error)) from error

    app = create_api(
        DESCRIPTION,
        lifespan=lifespan,
        health=Health(ready={"kafka": kafka_answers}),
        protection=protection,
        make_request_id=new_id_text,
        tracer=ProcessTracer.of(known, "event-api"),
        admission=Admission(AT_ONCE),
    )
    app.state.settings = known
    for each in (events, subscribers, erasures):
        app.include_router(each.router)
    app.router.routes.extend([catalogue_route(), erasures.KEY_SET_ROUTE])
    answer_outages(app)
    openapi.complete(app, schemas={**openapi.SCHEMAS, **receipts_openapi.SCHEMAS}, paths=receipts_openapi.PATHS)
    # Nothing of ours is in front: this lets streams and pages begin in turn. Both leave their places once begun.
    put_in_front(app, lambda framework: framework)
    return app
