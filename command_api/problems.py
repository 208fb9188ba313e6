"""The command API's own problem types, beside those that every API shares (chassis/http/problems.py).

Which error is answered with which of them is said in command_api/http/errors.py.
"""

from typing import Final

from chassis.http.problems import ProblemType

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
INVALID_ONE_TIME_TOKEN: Final = ProblemType(
    "invalid-one-time-token",
    400,
    "The one-time token cannot be redeemed",
    "It was never issued, has expired, was redeemed before, or ended with a newer one, with a change of what it was"
    " issued for, or with the user. Which of these is not told.",
    "Issue a new token, and send that to the user. If the answer to a first redemption was lost, see whether it was"
    " carried out: try the new password, or read the user.",
)
INVALID_CREDENTIALS: Final = ProblemType(
    "invalid-credentials",
    403,
    "The identifier or the password is wrong",
    "Nobody who may log in has this identifier and this password. Which of the two is wrong, and whether the user is"
    " deactivated or erased, is not said.",
    "Let the user try again, or reset the password by a one-time token.",
)
TOO_MANY_ATTEMPTS: Final = ProblemType(
    "too-many-attempts",
    429,
    "Too many wrong passwords",
    "Too many attempts with this identifier failed; this one was not looked at. A device that has logged in before, and"
    " sends its device_token, is counted by itself.",
    "Try again after the seconds in Retry-After, or reset the password by a one-time token.",
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
    "Others changed the same user each time this command was about to be committed.",
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
KEYS_USED_UP: Final = ProblemType(
    "idempotency-keys-used-up",
    429,
    "Too many keys are kept for you",
    "The answer to an Idempotency-Key is kept for a day, and of yours as many are kept as may be. Nothing was done.",
    "Send it again after the seconds in Retry-After. Or send it without an Idempotency-Key: where there is nothing to"
    " change, it may be sent as often as you like; a change without a key is safe to repeat with If-Match. The operator"
    " sets the limits (IDEMPOTENCY_UNCHANGED_PER_DAY, IDEMPOTENCY_CHANGED_PER_DAY).",
)
USER_ERASED: Final = ProblemType(
    "user-erased",
    410,
    "The person has been erased",
    "The command with this Idempotency-Key was carried out, but the person it was about has been erased since, and its"
    " answer with them. Or the id in a line of an import is an erased person's.",
    "There is nothing left to do; to import the person anew, leave the id out.",
)
OUTCOME_UNKNOWN: Final = ProblemType(
    "outcome-unknown",
    503,
    "Whether it was done cannot be told",
    "The connection to the database broke during the commit, and what became of it could not be found out in time.",
    "Send the same request with the same Idempotency-Key: it is carried out once, whatever happened before. Without a"
    " key, read the user first.",
)

COMMAND_PROBLEMS: Final[tuple[ProblemType, ...]] = (
    USER_NOT_FOUND,
    EMAIL_TAKEN,
    USERNAME_TAKEN,
    USER_DEACTIVATED,
    EMAIL_NOT_CURRENT,
    WRONG_PASSWORD,
    INVALID_ONE_TIME_TOKEN,
    INVALID_CREDENTIALS,
    TOO_MANY_ATTEMPTS,
    STALE_VERSION,
    CONFLICT,
    KEY_IN_USE,
    KEY_REUSED,
    KEYS_USED_UP,
    USER_ERASED,
    OUTCOME_UNKNOWN,
)
