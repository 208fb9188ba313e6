"""The fast path of a command: a request with nothing wrong or unusual is read and answered ahead of the web framework.

The routes say once what a command is (path, method, body, endpoint). FastAPI makes of them the document, the answers to
what is wrong with a request, and the path on which a test can replace dependencies. A request without a mistake needs
none of that, and the framework's layers, which resolve a route's dependencies anew each time, took a third of a
command's whole time here. So the fast path reads path, body and headers with the same models and calls the same
endpoint. As soon as anything is unusual it gives the request to FastAPI, with what was read of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Any, Final
from uuid import UUID

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.access.guard import access_of
from chassis.http.api import StrictRoute
from chassis.http.middleware import replayed
from chassis.http.problems import problem_response
from chassis.strict_json import read_json
from command_api.http.errors import EXPLAINED, problem_of
from command_api.http.headers import make_context

_USERS: Final = "/users/"
_OF_A_USER: Final = "/users/{id}"
#: The headers that mean something to a command.
_READ: Final = frozenset(
    {b"accept", b"content-encoding", b"content-type", b"if-match", b"idempotency-key", b"traceparent"}
)
_LOG_INS: Final = "log_ins"
_HANDLERS: Final = ("handlers", _LOG_INS)
_ACCEPTED: Final = frozenset({None, "*/*", "application/json"})
#: An id in its usual form. FastAPI takes a few more forms, and `UUID()` still more.
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class FastPath:
    """Serves commands that are plain and valid, and gives all other requests to the framework."""

    def __init__(self, app: FastAPI, routes: Iterable[APIRoute], framework: ASGIApp) -> None:
        """Serve `routes` of `app`, each at `/users`, below `/users/{id}`, or at a path without a variable part."""
        self._app = app
        self._framework = framework
        self._commands = {(method, route.path): _Command(route) for route in routes for method in route.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["query_string"] or self._app.dependency_overrides:
            await self._framework(scope, receive, send)
            return
        path: str = scope["path"]
        template, user_id = path, ""
        if path.startswith(_USERS):
            user_id, slash, action = path.removeprefix(_USERS).partition("/")
            template = _OF_A_USER + slash + action
        command = self._commands.get((scope["method"], template))
        messages: list[Message] = []
        arguments = await self._read(command, user_id, scope, receive, messages) if command else None
        if command is None or arguments is None:
            await self._framework(scope, replayed(messages, receive), send)
            return
        try:
            answer = await command.endpoint(**arguments)
        except EXPLAINED as error:
            answer = problem_response(problem_of(error), instance=path)
        await answer(scope, receive, send)

    async def _read(
        self, command: _Command, user_id: str, scope: Scope, receive: Receive, messages: list[Message]
    ) -> dict[str, Any] | None:
        """The endpoint's arguments, None where the request is unusual or wrong; adds what it receives to `messages`.

        Raises:
            Problem: 400, where If-Match or Idempotency-Key cannot be read; 403, the body asks for more than its token.
        """
        headers = plain_headers(scope)
        if headers is None:
            return None
        if command.of_a_user and not _ID.fullmatch(user_id):
            return None
        key = headers.get(b"idempotency-key")
        if command.is_about_secrets and key is not None:
            return None
        access, body = access_of(scope), b""
        arguments: dict[str, Any] = {}
        try:
            if command.of_a_user:
                arguments["user_id"] = UUID(user_id)
            if command.body is not None and headers.get(b"content-type") not in command.media_types:
                return None
            if command.body is not None or key is not None:
                body = await _read_body(receive, messages)
            if command.body is not None:
                document = read_json(body.decode())
                command.judge(access, document, self._app.state)
                arguments["command"] = command.body.validate_python(document)
        except ValueError:
            # Pydantic's ValidationError is one, too. FastAPI finds it again and says what is wrong.
            return None
        opened = self._app.state.resources
        arguments[command.handlers] = getattr(opened, command.handlers)
        arguments["context"] = make_context(
            opened.keys,
            access=access,
            traceparent=headers.get(b"traceparent"),
            if_match=None if command.is_about_secrets else headers.get(b"if-match"),
            key=key,
            request=(scope["method"], command.template.format(id=arguments.get("user_id")), body),
        )
        return arguments


class _Command:
    """One command, as its route declares it."""

    def __init__(self, route: APIRoute) -> None:
        assert isinstance(route, StrictRoute), "others have no media_types"
        self.endpoint = route.endpoint
        self.judge = route.judge
        self.template = route.path
        self.of_a_user = route.path.startswith(_OF_A_USER)
        #: The name of what carries it, among the endpoint's parameters as among the process's resources.
        self.handlers = next(name for name in _HANDLERS if name in signature(route.endpoint).parameters)
        #: The route has `secret_context`: no key is taken, and no version asked for.
        self.is_about_secrets = self.handlers == _LOG_INS
        self.media_types: Sequence[str] = route.media_types
        annotation: Any = route.body_field and route.body_field.field_info.annotation
        self.body: TypeAdapter[Any] | None = TypeAdapter(annotation) if annotation else None


def plain_headers(scope: Scope) -> dict[bytes, str] | None:
    """The headers that mean something, None where one of them comes twice or is unusual."""
    found: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        if name in _READ:
            if name in found:
                return None
            found[name] = value.decode("latin-1")
    return None if found.get(b"accept") not in _ACCEPTED or b"content-encoding" in found else found


async def _read_body(receive: Receive, messages: list[Message]) -> bytes:
    """The body; every message of it is kept in `messages`."""
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            raise ValueError("the client left before the end of the body")
        if not message.get("more_body", False):
            break
    if len(messages) == 1:
        body: bytes = messages[0].get("body", b"")
        return body
    return b"".join(message.get("body", b"") for message in messages)
