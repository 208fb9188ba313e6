"""A new password of a user is judged here, before it is hashed: registered, changed or imported in clear."""

from __future__ import annotations

from pydantic import SecretStr

from command_api.passwords.policy import PasswordPolicy
from command_api.users.commands import RegistersUser
from command_api.users.refusals import PasswordRefusedError
from events.user_events import PublicUser


def refusal(
    policy: PasswordPolicy, password: SecretStr, user: RegistersUser | PublicUser
) -> PasswordRefusedError | None:
    """Why this user may not have this password, None where it may."""
    fault = policy.fault(
        password.get_secret_value(), email=user.email, username=user.username, display_name=user.display_name
    )
    return PasswordRefusedError(fault) if fault else None
