"""The one table from what can go wrong with a command to the problem type that is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi import FastAPI, Request
from starlette.responses import Response

from chassis.http.problems import UNAVAILABLE, VALIDATION, FieldError, Problem, ProblemType, problem_response
from chassis.postgres.database import DatabaseUnavailableError
from command_api.idempotency import replay as idempotency
from command_api.passwords import hashing as passwords
from command_api.preconditions import etag
from command_api.users import handlers, refusals, store
from command_api.users.settlement import OutcomeUnknownError

USER_NOT_FOUND: Final = ProblemType(
    "user-not-found",
    404,
    "There is no such user",
    "No user has this id, or the person was erased.",
    "Check the id; an erased user cannot be brought back, only registered anew.",
)
EMAIL_TAKEN: Final = ProblemType(
    "email-taken",
    409,
    "The e-mail address is taken",
    "Another user has this address. Case makes no difference: Ann@example.com and ann@example.com are one.",
    "Use another address. If you just sent this very registration, send it with an Idempotency-Key the next time:"
    " a retry then gets the first answer.",
)
USERNAME_TAKEN: Final = ProblemType(
    "username-taken",
    409,
    "The username is taken",
    "Another user has this name. Case and compatibility forms make no difference: Ann, ann and \uff21nn are one.",
    "Choose another name.",
)
USER_DEACTIVATED: Final = ProblemType(
    "user-deactivated",
    409,
    "The user is deactivated",
    "A deactivated user can be reactivated or erased, nothing else.",
    "Reactivate the user first.",
)
EMAIL_NOT_CURRENT: Final = ProblemType(
    "email-not-current",
    409,
    "This is not the user's current address",
    "The address to verify is not the one the user has now; perhaps it was changed since the message went out.",
    "Read the user, and verify the address that is there.",
)
WRONG_PASSWORD: Final = ProblemType(
    "wrong-password",
    403,
    "The current password is wrong",
    "current_password is not the user's password; nothing was changed.",
    "Send the right one, or leave current_password out for an administrator's reset.",
)
STALE_VERSION: Final = ProblemType(
    "stale-version",
    412,
    "The user has changed since",
    "If-Match names a version that is not the current one; nothing was changed.",
    "Read the user again, look at what changed, and send the command with the new ETag if you still want it.",
)
CONFLICT: Final = ProblemType(
    "conflict",
    409,
    "Too many changes at once",
    "Others changed the same user each time this command was about to be committed, or held what it needs.",
    "Send the same request again after the seconds in Retry-After.",
)
KEY_IN_USE: Final = ProblemType(
    "idempotency-key-in-use",
    409,
    "The first request with this key is still running",
    "Another request with the same Idempotency-Key has not been answered yet.",
    "Send the same request again after the seconds in Retry-After; it then gets the first one's answer.",
)
KEY_REUSED: Final = ProblemType(
    "idempotency-key-reused",
    422,
    "The key came before with another request",
    "An Idempotency-Key stands for one request; this one has another body or another If-Match than the first.",
    "Use a new key for a new request.",
)
USER_ERASED: Final = ProblemType(
    "user-erased",
    410,
    "The person has been erased",
    "The command with this Idempotency-Key was carried out, but the person it was about has been erased since, and its"
    " answer with them. Or the id in a line of an import is an erased person's.",
    "There is nothing left to do; to import the person anew, leave the id out.",
)
BUSY: Final = ProblemType(
    "busy",
    503,
    "Too much work is waiting",
    "Hashing a password is slow on purpose and an import is long; more of them are waiting than this process takes."
    " Nothing was changed.",
    "Send the same request again after the seconds in Retry-After.",
)
OUTCOME_UNKNOWN: Final = ProblemType(
    "outcome-unknown",
    503,
    "Whether it was done cannot be told",
    "The connection to the database broke during the commit, and what became of it could not be found out in time.",
    "Send the same request with the same Idempotency-Key: it is carried out once, whatever happened before. Without a"
    " key, read the user first.",
)

PROBLEMS: Final[tuple[ProblemType, ...]] = (
    USER_NOT_FOUND,
    EMAIL_TAKEN,
    USERNAME_TAKEN,
    USER_DEACTIVATED,
    EMAIL_NOT_CURRENT,
    WRONG_PASSWORD,
    STALE_VERSION,
    CONFLICT,
    KEY_IN_USE,
    KEY_REUSED,
    USER_ERASED,
    BUSY,
    OUTCOME_UNKNOWN,
)

#: The fields that a refusal is about, as JSON pointers.
_POINTERS: Final[Mapping[type[Exception], str]] = {
    refusals.EmailTakenError: "#/email",
    refusals.EmailNotCurrentError: "#/email",
    refusals.UsernameTakenError: "#/username",
    refusals.AttributesRefusedError: "#/attributes",
    handlers.WrongPasswordError: "#/current_password",
}

_TYPES: Final[Mapping[type[Exception], ProblemType]] = {
    refusals.UserNotFoundError: USER_NOT_FOUND,
    refusals.EmailTakenError: EMAIL_TAKEN,
    refusals.UsernameTakenError: USERNAME_TAKEN,
    refusals.UserIsDeactivatedError: USER_DEACTIVATED,
    refusals.EmailNotCurrentError: EMAIL_NOT_CURRENT,
    refusals.AttributesRefusedError: VALIDATION,
    handlers.WrongPasswordError: WRONG_PASSWORD,
    handlers.StaleVersionError: STALE_VERSION,
    handlers.ConflictError: CONFLICT,
    store.KeyTakenError: KEY_IN_USE,
    idempotency.KeyInUseError: KEY_IN_USE,
    idempotency.KeyReusedError: KEY_REUSED,
    idempotency.KeySubjectErasedError: USER_ERASED,
    passwords.HashingBusyError: BUSY,
    OutcomeUnknownError: OUTCOME_UNKNOWN,
    DatabaseUnavailableError: UNAVAILABLE,
}

#: The errors that have a problem.
EXPLAINED: Final = tuple(_TYPES)

_RETRY_AFTER: Final[Mapping[ProblemType, int]] = {
    CONFLICT: handlers.RETRY_AFTER_SECONDS,
    KEY_IN_USE: idempotency.RETRY_AFTER_SECONDS,
    BUSY: passwords.RETRY_AFTER_SECONDS,
    OUTCOME_UNKNOWN: handlers.RETRY_AFTER_SECONDS,
    UNAVAILABLE: handlers.RETRY_AFTER_SECONDS,
}


def problem_of(error: Exception) -> Problem:
    """The problem that is answered for an error of the table."""
    kind = _TYPES[type(error)]
    detail = str(error) if isinstance(error, refusals.RefusedError) else kind.meaning
    headers: dict[str, str] = {}
    errors: list[FieldError] = []
    if isinstance(error, handlers.StaleVersionError):
        headers["ETag"] = etag(error.version)
    if kind in _RETRY_AFTER:
        headers["Retry-After"] = str(_RETRY_AFTER[kind])
    if pointer := _POINTERS.get(type(error)):
        errors.append({"detail": detail, "pointer": pointer})
    return Problem(kind, detail, errors=errors, headers=headers)


def answer_with_problems(app: FastAPI) -> None:
    """Have the app answer every error of the table with its problem."""
    for error in EXPLAINED:
        app.add_exception_handler(error, _answer)


def _answer(request: Request, error: Exception) -> Response:
    return problem_response(problem_of(error), instance=request.url.path)
