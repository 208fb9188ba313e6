"""The one table from what can go wrong with a command to the problem that is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi import FastAPI, Request
from starlette.responses import Response

from chassis.http.problems import BUSY, UNAVAILABLE, VALIDATION, FieldError, Problem, ProblemType, problem_response
from chassis.postgres.database import DatabaseUnavailableError, RolledBackError
from command_api.credentials.attempts.rule import FloodError, TooManyAttemptsError
from command_api.credentials.one_time_tokens import InvalidOneTimeTokenError
from command_api.credentials.verification import InvalidCredentialsError
from command_api.idempotency.records import KeyTakenError
from command_api.idempotency.replay import KeyInUseError, KeyReusedError, KeySubjectErasedError, KeysUsedUpError
from command_api.imports.places import ImportsBusyError
from command_api.passwords.lanes import HashingBusyError
from command_api.problems import (
    CONFLICT,
    EMAIL_NOT_CURRENT,
    EMAIL_TAKEN,
    INVALID_CREDENTIALS,
    INVALID_ONE_TIME_TOKEN,
    KEY_IN_USE,
    KEY_REUSED,
    KEYS_USED_UP,
    OUTCOME_UNKNOWN,
    STALE_VERSION,
    TOO_MANY_ATTEMPTS,
    USER_DEACTIVATED,
    USER_ERASED,
    USER_NOT_FOUND,
    USERNAME_TAKEN,
    WRONG_PASSWORD,
)
from command_api.users import handlers, refusals
from command_api.users.lost_replies import OutcomeUnknownError

#: Each error and its problem type.
_TYPES: Final[Mapping[type[Exception], ProblemType]] = {
    refusals.UserNotFoundError: USER_NOT_FOUND,
    refusals.EmailTakenError: EMAIL_TAKEN,
    refusals.UsernameTakenError: USERNAME_TAKEN,
    refusals.UserIsDeactivatedError: USER_DEACTIVATED,
    refusals.EmailNotCurrentError: EMAIL_NOT_CURRENT,
    refusals.AttributesRefusedError: VALIDATION,
    refusals.PasswordRefusedError: VALIDATION,
    InvalidOneTimeTokenError: INVALID_ONE_TIME_TOKEN,
    handlers.WrongPasswordError: WRONG_PASSWORD,
    InvalidCredentialsError: INVALID_CREDENTIALS,
    TooManyAttemptsError: TOO_MANY_ATTEMPTS,
    FloodError: TOO_MANY_ATTEMPTS,
    handlers.StaleVersionError: STALE_VERSION,
    handlers.ConflictError: CONFLICT,
    KeyTakenError: KEY_IN_USE,
    KeyInUseError: KEY_IN_USE,
    KeyReusedError: KEY_REUSED,
    KeySubjectErasedError: USER_ERASED,
    KeysUsedUpError: KEYS_USED_UP,
    HashingBusyError: BUSY,
    ImportsBusyError: BUSY,
    OutcomeUnknownError: OUTCOME_UNKNOWN,
    DatabaseUnavailableError: UNAVAILABLE,
    RolledBackError: UNAVAILABLE,
}
#: The errors whose message is for the client; of others the problem type's meaning is shown.
_SHOWN: Final = (refusals.RefusedError, HashingBusyError, ImportsBusyError, KeysUsedUpError)
#: The fields that a refusal is about, as JSON pointers.
_POINTERS: Final[Mapping[type[Exception], str]] = {
    refusals.EmailTakenError: "#/email",
    refusals.EmailNotCurrentError: "#/email",
    refusals.UsernameTakenError: "#/username",
    refusals.AttributesRefusedError: "#/attributes",
    refusals.PasswordRefusedError: "#/password",
    handlers.WrongPasswordError: "#/current_password",
}
#: The problems that pass by themselves.
_PASSING: Final = frozenset({CONFLICT, KEY_IN_USE, BUSY, OUTCOME_UNKNOWN, UNAVAILABLE})
#: Retry-After of those. Commands hold a user for milliseconds, and a full queue of passwords is half a second of work.
RETRY_AFTER_SECONDS: Final = 1

#: The errors that have a problem.
EXPLAINED: Final = tuple(_TYPES)


def problem_of(error: Exception) -> Problem:
    """The problem that is answered for an error of the table."""
    kind = _TYPES[type(error)]
    detail = str(error) if isinstance(error, _SHOWN) else kind.meaning
    headers: dict[str, str] = {}
    errors: list[FieldError] = []
    if isinstance(error, handlers.StaleVersionError):
        headers["ETag"] = handlers.etag(error.version)
    if isinstance(error, TooManyAttemptsError | KeysUsedUpError):
        headers["Retry-After"] = str(error.seconds)
    if kind in _PASSING:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if pointer := _POINTERS.get(type(error)):
        errors.append({"detail": detail, "pointer": pointer})
    return Problem(kind, detail, errors=errors, headers=headers)


def answer_with_problems(app: FastAPI) -> None:
    """Have the app answer every error of the table with its problem."""
    for error in EXPLAINED:
        app.add_exception_handler(error, _answer)


def _answer(request: Request, error: Exception) -> Response:
    return problem_response(problem_of(error), instance=request.url.path)
