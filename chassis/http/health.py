"""Whether a process lives and can work: `/health`, `/livez`, `/readyz` and `/metrics`, the same on every process.

Live means that the loop turns (restart me otherwise); ready means that the process can do its work now (send me none
otherwise). A check is an async callable that raises when its answer is no; the exception's message says why. The why,
and the metrics, are for the inside alone: they are served on a port that clients do not reach.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis import __version__
from chassis.lifecycle import wait_at_most
from chassis.outages import describe
from chassis.telemetry import render_metrics

Check = Callable[[], Awaitable[None]]
Question = Literal["live", "ready"]
#: What each check answers, by its name: `OK`, or why not.
Results = Mapping[str, str]

#: Whoever asks how a process is asks most when there is most to do: these are answered whatever waits.
PROBES: Final = frozenset({"/health", "/livez", "/readyz"})
OK: Final = "ok"
#: An orchestrator's probe waits a second or more; a check that takes longer has failed.
CHECK_SECONDS: Final = 2.0
#: Anybody may ask the public port, as often as they like, and each look asks the database. Inside, who asks wants to
#: know what is so now; many at once share a look.
LOOK_SECONDS: Final = 1.0


class NotReadyError(Exception):
    """A check's answer is no; the message says why, in one line."""


class Answers(Protocol):
    """A process, or several that are one service, that can be asked how it is."""

    async def look(self, question: Question) -> Results:
        """What each check of that question answers now."""


@dataclass(frozen=True, slots=True)
class Health:
    """The checks of one process, by the name that the answer shows."""

    ready: Mapping[str, Check] = field(default_factory=dict)
    live: Mapping[str, Check] = field(default_factory=dict)

    async def look(self, question: Question) -> Results:
        """What each check answers now, within `CHECK_SECONDS`."""
        checks = self.ready if question == "ready" else self.live
        return dict(zip(checks, await asyncio.gather(*map(_run, checks.values())), strict=True))


class OneLook:
    """Asks once for all who ask at the same time, or soon after."""

    def __init__(self, asked: Answers, *, good_for: float, now: Callable[[], float] = time.monotonic) -> None:
        """An answer is given again for `good_for` seconds; `now` gives seconds."""
        self._asked = asked
        self._good_for = good_for
        self._now = now
        self._looks: dict[Question, tuple[float, asyncio.Task[Results]]] = {}

    async def look(self, question: Question) -> Results:
        """What each check answered at most `good_for` ago, or in a look that was under way."""
        begun, look = self._looks.get(question, (float("-inf"), None))
        if look is None or (look.done() and self._now() - begun > self._good_for):
            look = asyncio.create_task(self._asked.look(question))
            self._looks[question] = self._now(), look
        # One who leaves does not end the look of the others.
        return await asyncio.shield(look)


def inner_routes(asked: Answers, certificates: Mapping[str, str]) -> list[Route]:
    """The routes of a port of the inside, where answers say why, and metrics are.

    `certificates` are the files of which metrics say when they expire, by variable.
    """

    async def metrics(_: Request) -> Response:
        body, media_type = await asyncio.to_thread(render_metrics, certificates)
        return Response(body, media_type=media_type, headers={"Cache-Control": "no-store"})

    return [*_routes(OneLook(asked, good_for=0.0), says_why=True), Route("/metrics", metrics)]


def public_routes(asked: Answers) -> list[Route]:
    """The routes for everybody: they say yes or no, and no more."""
    return _routes(OneLook(asked, good_for=LOOK_SECONDS), says_why=False)


def _routes(asked: Answers, *, says_why: bool) -> list[Route]:
    def probe(question: Question) -> Callable[[Request], Awaitable[Response]]:
        async def answer(_: Request) -> Response:
            results = await asked.look(question)
            good = all(result == OK for result in results.values())
            said = {"status": OK if good else "failed"}
            return _json({**said, "checks": results} if says_why else said, 200 if good else 503)

        return answer

    return [Route("/health", _health), Route("/livez", probe("live")), Route("/readyz", probe("ready"))]


class HealthFirst:
    """Answers `GET /health` itself, without the framework's layers; `app` serves everything else."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one connection."""
        if scope["type"] == "http" and scope["path"] == "/health" and scope["method"] == "GET":
            return _said_healthy()(scope, receive, send)
        return self._app(scope, receive, send)


async def _run(check: Check) -> str:
    try:
        await wait_at_most(check(), CHECK_SECONDS)
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:g} s"
    except Exception as error:  # noqa: BLE001 - whatever a check raises is its answer
        return describe(error)
    return OK


async def _health(_: Request) -> Response:
    return _said_healthy()


def _said_healthy() -> Response:
    return _json({"status": OK, "version": __version__}, 200)


def _json(document: object, status: int) -> Response:
    return Response(
        json.dumps(document, separators=(",", ":")),
        status_code=status,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
