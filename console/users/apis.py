"""The two APIs of users, asked with the operator's own token: the console can do what the token can, and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

import httpx

from chassis.outages import describe
from console.pages import PageError
from console.settings import ConsoleSettings
from console.sign_in.sessions import Session

#: A command may wait for a lock and be tried again; after this the console tells of an outage.
ANSWER_SECONDS: Final = 10.0
#: What an API says that a person is told as it is; anything else is a fault between the services.
_TOLD: Final = frozenset({400, 403, 404, 409, 410, 412, 422, 429, 503, 504})
_ENDED: Final = PageError(401, "Your token is not good any more", "Sign in again, then do it again.")

Json = dict[str, Any]


class Apis:
    """Both of them."""

    def __init__(self, command: httpx.AsyncClient, query: httpx.AsyncClient) -> None:
        """Use `open_apis`, which also closes."""
        self._command, self._query = command, query

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
        """What the query API answers.

        Raises:
            PageError: it refuses, or does not answer.
        """
        request = self._query.build_request(method, path, json=json, params=params, headers=headers)
        answer = await _answer("query", self._query, session, request)
        return dict(answer.json())

    async def command(
        self, session: Session, method: str, path: str, json: Json | None = None
    ) -> tuple[Json, str | None]:
        """What the command API answers, empty where it says nothing, and the Consistency-Token of the change.

        Raises:
            PageError: it refuses, or does not answer.
        """
        answer = await _answer("command", self._command, session, self._command.build_request(method, path, json=json))
        said = dict(answer.json()) if answer.content else {}
        return said, answer.headers.get("Consistency-Token")


@asynccontextmanager
async def open_apis(settings: ConsoleSettings) -> AsyncIterator[Apis]:
    """The APIs at the addresses of the settings, until the block ends."""
    async with (
        _client(settings.console_command_url) as command,
        _client(settings.console_query_url) as query,
    ):
        yield Apis(command, query)


def _client(address: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=address, timeout=ANSWER_SECONDS, trust_env=False)


async def _answer(api: str, client: httpx.AsyncClient, session: Session, request: httpx.Request) -> httpx.Response:
    if session.token is not None:
        request.headers["Authorization"] = f"Bearer {session.token}"
    try:
        answer = await client.send(request)
    except httpx.HTTPError as error:
        raise PageError(
            503, f"The {api} API does not answer", f"{describe(error)}. Whether anything was changed is not known."
        ) from error
    if answer.is_success:
        return answer
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        raise _ENDED
    raise _refusal(api, answer)


def _refusal(api: str, answer: httpx.Response) -> PageError:
    status = answer.status_code if answer.status_code in _TOLD else HTTPStatus.BAD_GATEWAY
    try:
        problem = answer.json()
        title, detail = str(problem["title"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return PageError(status, f"The {api} API answers {answer.status_code}", "It does not say why.")
    return PageError(status, title, f"The {api} API says: {detail}.")
