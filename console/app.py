"""The console as an ASGI application: `create_app` is uvicorn's factory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import Final

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

import console.assets
import console.events.page
import console.operations.page
import console.overview.page
import console.parked.page
import console.projections.page
import console.sign_in.oidc
import console.sign_in.pages
import console.subscribers.page
import console.users.commands
import console.users.detail
import console.users.search
from chassis.access.authenticator import open_authenticator
from chassis.access.hosts import Hosts
from chassis.clock import utc_now
from chassis.http.health import Health, NotReadyError, public_routes
from chassis.http.middleware import BodyLimit, RequestContext
from chassis.http.overload.admission import AT_ONCE, Admission, InTurn, RefuseWhenBehind
from chassis.http.protection import methods_and_paths
from chassis.http.tracing import traced
from chassis.identifiers import new_id_text
from chassis.lifecycle import alongside
from chassis.postgres.database import Database
from chassis.settings import load
from chassis.tracing.process import ProcessTracer, exporting
from console.access import ACCESS, SPENDING
from console.apis import open_apis
from console.asking import LOOK_SECONDS
from console.guard import ErrorPages, SessionGuard, asking, error_page
from console.operations.journal import Journal
from console.overview.observation import look
from console.overview.page import Overview
from console.overview.watch import Watch
from console.projections.rebuilds import Rebuilds
from console.settings import ConsoleSettings
from console.sign_in.pages import cookie_name
from console.sign_in.provider import open_provider
from console.sign_in.renewal import open_renewal
from console.sign_in.sessions import Sessions

#: The largest form of ours has a reason, or the ids of a list.
BODY_BYTES: Final = 16 * 1024

_ROUTES: Final = (
    *console.assets.routes,
    # These come before the links, whose paths are anything below /sign-in.
    *console.sign_in.oidc.routes,
    *console.sign_in.pages.routes,
    *console.overview.page.routes,
    *console.users.search.routes,
    *console.users.detail.routes,
    *console.users.commands.routes,
    *console.events.page.routes,
    *console.projections.page.routes,
    *console.parked.page.routes,
    *console.subscribers.page.routes,
    *console.operations.page.routes,
)


def create_app(settings: ConsoleSettings | None = None) -> Starlette:
    """Make the app; nothing is opened before its lifespan begins.

    Raises:
        SettingsError: the environment lacks a setting, or does not say whose tokens open the console.
    """
    known = settings or load(ConsoleSettings)
    is_on = known.expectations(known.console_host) is not None
    tracer = ProcessTracer.of(known, "console")
    admission = Admission(AT_ONCE)
    app: Starlette = Starlette(
        routes=asking(_ROUTES),
        lifespan=_lifespan,
        exception_handlers={HTTPException: error_page},
        middleware=[
            Middleware(RequestContext, make_id=new_id_text),
            *traced(tracer),
            Middleware(ErrorPages),
            Middleware(RefuseWhenBehind, admission=admission),
            Middleware(Hosts, allowed=known.host_names, loopback_only=not is_on),
            Middleware(BodyLimit, limit=lambda _: BODY_BYTES),
            # Ahead of the guard: to find a session is work, too.
            Middleware(InTurn, admission=admission),
            Middleware(SessionGuard, sessions=lambda: app.state.sessions, cookie=cookie_name(known)),
        ],
    )
    app.router.redirect_slashes = False
    app.state.settings, app.state.tracer = known, tracer
    app.state.admission = admission
    app.state.health = Health(ready={"query_database": lambda: _check(app)})
    app.router.routes.extend(public_routes(app.state.health))
    # The link itself is what opens the route that spends it.
    ACCESS.require_cover(route for route in methods_and_paths(app.router.routes) if route != SPENDING)
    return app


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    settings: ConsoleSettings = app.state.settings
    tls = _trust(settings)
    async with (
        exporting(app.state.tracer),
        open_authenticator(settings, host=settings.console_host) as authenticator,
        Database.open(settings.command_side, application="muster-console") as command,
        Database.open(settings.query_side, application="muster-console") as query,
        httpx.AsyncClient(timeout=LOOK_SECONDS, trust_env=False, verify=tls) as http,
        open_apis(settings, tls) as apis,
        open_provider(settings) as provider,
        open_renewal(provider, query, settings.seals, authenticator, utc_now) as renewal,
    ):
        watch = Watch(lambda: look(settings, command, query, http))
        app.state.query, app.state.apis = query, apis
        app.state.provider = provider
        app.state.sessions = Sessions(query, settings.seals, authenticator, utc_now, renewal)
        app.state.journal, app.state.overview = Journal(query), Overview(watch)
        app.state.rebuilds = Rebuilds(settings, command, app.state.journal)
        async with app.state.rebuilds.open(), alongside(watch.run()):
            yield


def _trust(settings: ConsoleSettings) -> SSLContext:
    """One trust for all who ask the other processes: the usual authorities take a megabyte.

    Where no address is https there is nobody to trust, and nobody is.
    """
    schemes = {httpx.URL(address).scheme for address in settings.api_addresses}
    return httpx.create_ssl_context(trust_env=False) if "https" in schemes else SSLContext(PROTOCOL_TLS_CLIENT)


async def _check(app: Starlette) -> None:
    query: Database | None = getattr(app.state, "query", None)
    if query is None:
        raise NotReadyError("starting")
    await query.check()
