"""The domain's refusals: why a well-formed command is not carried out.

A refusal changes nothing. Its message is shown to the client, so it says what to do and repeats nobody's data.
command_api/http/errors.py has the problem type of each.
"""

from __future__ import annotations


class RefusedError(Exception):
    """A command was refused; the message is for the client."""


class UserNotFoundError(RefusedError):
    """There is no such user, or the person was erased."""

    def __init__(self) -> None:
        """The same words for both, so that nobody learns who was erased."""
        super().__init__("there is no user with this id")


class EmailTakenError(RefusedError):
    """Another user has this address, written the same or in other case."""

    def __init__(self) -> None:
        """Names no owner."""
        super().__init__("another user has this e-mail address; use another one")


class UsernameTakenError(RefusedError):
    """Another user has this name, written the same or in other case."""

    def __init__(self) -> None:
        """Names no owner."""
        super().__init__("another user has this username; choose another one")


class UserIsDeactivatedError(RefusedError):
    """A deactivated user can be reactivated or erased, nothing else."""

    def __init__(self) -> None:
        """Says the way out."""
        super().__init__("the user is deactivated; reactivate it first")


class EmailNotCurrentError(RefusedError):
    """The address to verify is not the user's current one."""

    def __init__(self) -> None:
        """Says the way out."""
        super().__init__("this is not the user's current e-mail address; read the user and verify that one")


class AttributesRefusedError(RefusedError):
    """The attributes would be too large or too deep after the merge."""
