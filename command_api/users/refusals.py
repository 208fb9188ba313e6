"""The domain's refusals: why a well-formed command is not carried out.

A refusal changes nothing. Its message is shown to the client, so it says what to do and repeats nobody's data.
command_api/http/errors.py has the problem type of each.
"""

from __future__ import annotations


class RefusedError(Exception):
    """A command was refused; the message is for the client."""

    message = ""

    def __init__(self, message: str = "") -> None:
        """The class's own message, unless another is given."""
        super().__init__(message or self.message)


class UserNotFoundError(RefusedError):
    """There is no such user, or the person was erased: the same words, so that nobody learns who was erased."""

    message = "there is no user with this id"


class EmailTakenError(RefusedError):
    """Another user has this address, written the same or in other case."""

    message = "another user has this e-mail address; use another one"


class UsernameTakenError(RefusedError):
    """Another user has this name, written the same or in other case."""

    message = "another user has this username; choose another one"


class UserIsDeactivatedError(RefusedError):
    """A deactivated user can be reactivated or erased, nothing else."""

    message = "the user is deactivated; reactivate it first"


class EmailNotCurrentError(RefusedError):
    """The address to verify is not the user's current one."""

    message = "this is not the user's current e-mail address; read the user and verify that one"


class PasswordRefusedError(RefusedError):
    """The new password may not be chosen, or must not be there; the message says why."""


class AttributesRefusedError(RefusedError):
    """The attributes would be too large or too deep after the merge; the message says which."""
