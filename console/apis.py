"""The APIs of users and of events, asked with the operator's own token: it can do what the token can."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from ssl import SSLContext
from typing import Any, Final

import httpx

from chassis.http.tracing import outgoing
from chassis.outages import describe
from console.pages import UNSURE, PageError
from console.settings import ConsoleSettings
from console.sign_in.sessions import Session

#: A command may wait for a lock and be tried again; after this the console tells of an outage.
ANSWER_SECONDS: Final = 10.0
#: A person is told what an API says with these statuses; any other is a fault between the services.
_TOLD: Final = frozenset({400, 403, 404, 409, 410, 412, 422, 429, 503, 504})
_COMMAND: Final = "command"
_ENDED: Final = PageError(401, "Your token is not good any more", "Sign in again, then do it again.")

#: The event API says something every 15 s; a stream that is silent for longer is dead.
SILENCE_SECONDS: Final = 45.0
#: Streams at once; who comes then is told, and tried again.
_MOST_STREAMS: Final = 200

Json = dict[str, Any]
Parameters = Mapping[str, str | Sequence[str]]


class Apis:
    """All of them."""

    def __init__(self, command: httpx.AsyncClient, query: httpx.AsyncClient, events: httpx.AsyncClient) -> None:
        """Use `open_apis`, which also closes."""
        self._command, self._query, self._events = command, query, events

    async def query(  # noqa: PLR0913 - what a request has
        self,
        session: Session,
        method: str,
        path: str,
        *,
        json: Json | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """The answer of the query API.

        Raises:
            PageError: it refuses, or does not answer.
        """
        _require_sendable(headers or {})
        request = self._query.build_request(method, path, json=json, params=params, headers=headers)
        answer = await _answer("query", self._query, session, request)
        return dict(answer.json())

    async def command(
        self, session: Session, method: str, path: str, json: Json | None = None
    ) -> tuple[Json, str | None]:
        """The answer of the command API, empty where it says nothing, and the Consistency-Token of the change.

        Raises:
            PageError: it refuses, or does not answer.
        """
        answer = await _answer(_COMMAND, self._command, session, self._command.build_request(method, path, json=json))
        said = dict(answer.json()) if answer.content else {}
        return said, answer.headers.get("Consistency-Token")

    async def event_api(
        self, session: Session, method: str, path: str, params: Mapping[str, str] | None = None
    ) -> Json:
        """The answer of the event API about subscribers and erasures, empty where it says nothing.

        Raises:
            PageError: it refuses, or does not answer.
        """
        request = self._events.build_request(method, path, params=params)
        answer = await _answer("event", self._events, session, request)
        return dict(answer.json()) if answer.content else {}

    async def events(self, session: Session, params: Parameters) -> Json:
        """A page of the event API.

        Raises:
            PageError: it refuses, or does not answer.
        """
        request = self._events.build_request("GET", "/events", params=params, headers={"Accept": "application/json"})
        return dict((await _answer("event", self._events, session, request)).json())

    @asynccontextmanager
    async def event_stream(
        self, session: Session, params: Parameters, position: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The stream of the event API after a position, or from now on where there is none, as it comes.

        Raises:
            PageError: it refuses, or does not answer, or breaks off.
        """
        _require_sendable({"Last-Event-ID": position})
        request = self._events.build_request(
            "GET",
            "/events",
            params=params,
            headers={"Accept": "text/event-stream", **({"Last-Event-ID": position} if position else {})},
            timeout=httpx.Timeout(ANSWER_SECONDS, read=SILENCE_SECONDS),
        )
        answer = await _answer("event", self._events, session, request, stream=True)
        try:
            yield answer.aiter_bytes()
        except httpx.HTTPError as error:
            raise _silence("event", error) from error
        finally:
            await answer.aclose()


@asynccontextmanager
async def open_apis(settings: ConsoleSettings, tls: SSLContext) -> AsyncIterator[Apis]:
    """The APIs at the addresses of the settings, until the block ends."""
    async with (
        _client(settings.console_command_url, verify=tls) as command,
        _client(settings.console_query_url, verify=tls) as query,
        _client(settings.console_events_url, verify=tls, limits=httpx.Limits(max_connections=_MOST_STREAMS)) as events,
    ):
        yield Apis(command, query, events)


def _client(address: str, **more: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=address, timeout=ANSWER_SECONDS, trust_env=False, **more)


async def _answer(
    api: str, client: httpx.AsyncClient, session: Session, request: httpx.Request, *, stream: bool = False
) -> httpx.Response:
    if session.token is not None:
        request.headers["Authorization"] = f"Bearer {session.token}"
    request.headers.update(outgoing())
    try:
        answer = await client.send(request, stream=stream)
        if not answer.is_success:
            await answer.aread()
    except httpx.HTTPError as error:
        raise _silence(api, error) from error
    if answer.is_success:
        return answer
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        raise _ENDED
    raise _refusal(api, answer)


def _silence(api: str, error: httpx.HTTPError) -> PageError:
    why = f"No answer within {ANSWER_SECONDS:g} s" if isinstance(error, httpx.ReadTimeout) else describe(error)
    return _told(503, f"The {api} API does not answer", f"{why}.", unsure=api == _COMMAND)


def _refusal(api: str, answer: httpx.Response) -> PageError:
    """The error for an API's answer; one that fails, or a proxy before it, may have carried out what it was sent."""
    status = answer.status_code if answer.status_code in _TOLD else HTTPStatus.BAD_GATEWAY
    unsure = api == _COMMAND and answer.is_server_error
    try:
        problem = answer.json()
        title, detail = str(problem["title"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return _told(status, f"The {api} API answers {answer.status_code}", "It does not say why.", unsure=unsure)
    return _told(status, title, f"The {api} API says: {detail}.", unsure=unsure)


def _told(status: int, title: str, detail: str, *, unsure: bool) -> PageError:
    return PageError(status, title, f"{detail} {UNSURE}" if unsure else detail, unsure=unsure)


def _require_sendable(headers: Mapping[str, str]) -> None:
    """Return where these can be headers; a page's address may have anything in it.

    Raises:
        PageError: 400.
    """
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise PageError(400, "That address cannot be read", f"What it gives as {name} is none.")
