"""Answers guesses at a counter that refuses ahead of the app, so that a flood of them takes little time from others.

Only what this process has just heard or seen to refuse (command_api/credentials/attempts/refusals.py) is answered here,
in the app's own words, and only where its layers let the request in. Whatever is unusual, or comes with a device token,
the app sees.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from fastapi import FastAPI
from pydantic import TypeAdapter
from starlette.types import Scope

from chassis.http.api import BODY_BYTES
from chassis.http.problems import PreparedProblem
from chassis.strict_json import read_json
from command_api.credentials.attempts.rule import TooManyAttemptsError, identifier_key, of_identifier
from command_api.credentials.checks import THROTTLED, PasswordChecks
from command_api.credentials.verification import VerifyCredentials
from command_api.http.credentials import VERIFY_PATH
from command_api.http.errors import problem_of
from command_api.http.fast_path import plain_headers
from command_api.users.values import IDENTIFIER_CHARACTERS

_BEGINNING: Final = f"POST {VERIFY_PATH} ".encode()
#: In UTF-8, which takes four bytes a character at most; keys of longer ones would take long to make.
_IDENTIFIER: Final = re.compile(rb'"identifier"\s*:\s*"([^"\\]{1,%d})"' % (4 * IDENTIFIER_CHARACTERS))
_HAS_TOKEN: Final = re.compile(rb'"device_token"\s*:\s*"')
_JSON: Final = "application/json"
_BODY: Final = TypeAdapter(VerifyCredentials)


class RefusedGuesses:
    """Knows of a request that it is such a guess."""

    def __init__(self, lets_in: Callable[[Scope], bool]) -> None:
        """`lets_in` tells whether the app would let a request in."""
        self._lets_in = lets_in

    def __call__(self, scope: Scope, sent: bytes) -> PreparedProblem | None:
        """Give the 429 that the app would answer, None where it is to be asked."""
        checks: PasswordChecks = scope["app"].state.resources.log_ins.checks
        if scope["path"] != VERIFY_PATH or scope["method"] != "POST" or not checks.attempts.refusals:
            return None
        given = _plain(scope, sent)
        if given is None or given.device_token is not None:
            return None
        seconds = checks.attempts.refusals.known(of_identifier(checks.keys, identifier_key(given.identifier)))
        if seconds is None or not self._lets_in(scope):
            return None
        THROTTLED.inc()
        return _prepared(seconds)

    def may_wait(self, app: FastAPI, sent: bytes, at: int) -> bool:
        """Whether a request that begins at `at` looks like such a guess; who is wrong about it waits a little."""
        checks: PasswordChecks = app.state.resources.log_ins.checks
        if not checks.attempts.refusals or not sent.startswith(_BEGINNING, at):
            return False
        named = _IDENTIFIER.search(sent, at)
        if named is None or _HAS_TOKEN.search(sent, at):
            return False
        key = identifier_key(named[1].decode(errors="replace"))
        return checks.attempts.refusals.expect(of_identifier(checks.keys, key))


def _plain(scope: Scope, sent: bytes) -> VerifyCredentials | None:
    """The body of a request with nothing wrong or unusual about it."""
    headers = plain_headers(scope)
    if scope["query_string"] or len(sent) > BODY_BYTES or headers is None:
        return None
    if headers.get(b"content-type") != _JSON or b"idempotency-key" in headers:
        return None
    try:
        return _BODY.validate_python(read_json(sent.decode()))
    except ValueError:  # pydantic's, too: the app says what is wrong
        return None


@lru_cache
def _prepared(seconds: int) -> PreparedProblem:
    return PreparedProblem(problem_of(TooManyAttemptsError(seconds)))
