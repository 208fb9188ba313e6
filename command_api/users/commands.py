"""The commands: what a client may ask for, each value checked. Each is the body of its request, too."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationInfo, field_validator

from command_api.users.values import (
    AttributesPatch,
    CurrentPassword,
    DeviceTokenText,
    DisplayName,
    Email,
    Password,
    Reason,
    Username,
    WholeAttributes,
)
from events.user_events import Status


class _Command(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RegistersUser(_Command):
    """The fields that a new user brings, registered or imported: fields of the public user, by the same names."""

    email: Email
    username: Username
    display_name: DisplayName | None = None
    attributes: WholeAttributes | None = None


class RegisterUser(RegistersUser):
    """A new user, active, with an e-mail address that is not verified yet."""

    password: Password


class ImportsUser(RegistersUser):
    """A new user who was one elsewhere, as they were there."""

    created_at: datetime | None = None
    email_verified: StrictBool = Field(default=False, description="Whether the address is known to be the user's.")
    status: Status = Field(default="active", description="A deactivated user can only be reactivated or erased.")
    deactivated_reason: Reason | None = Field(
        default=None, description="Why, of a deactivated one; published with the event and shown in the timeline."
    )

    @field_validator("deactivated_reason")
    @classmethod
    def _is_of_a_deactivated_one(cls, reason: str | None, earlier: ValidationInfo) -> str | None:
        if reason is not None and earlier.data.get("status") == "active":
            raise ValueError("goes with status deactivated alone; send that, or leave the reason out")
        return reason


class ChangeEmail(_Command):
    """Another e-mail address, which has to be verified anew."""

    email: Email


class VerifyEmail(_Command):
    """The address that was verified; it must be the current one, so that a late click cannot verify another one."""

    email: Email


class ChangeUsername(_Command):
    """Another user name."""

    username: Username


class ChangePassword(_Command):
    """Another password: the user's own change where the current one is given, an administrator's reset where not."""

    password: Password
    current_password: CurrentPassword | None = Field(
        default=None, description="Checked where it is given; wrong is answered 403."
    )
    device_token: DeviceTokenText | None = Field(
        default=None, description="Where it is valid, the answer has a new one, as this one ends with the password."
    )


class ChangeProfile(_Command):
    """A merge patch (RFC 7396) of fields of the public user: what is absent stays, null removes."""

    display_name: DisplayName | None = None
    attributes: AttributesPatch | None = None


#: Members of `ChangeProfile` that a user may write of its own; of attributes, those that AUTH_SELF_ATTRIBUTES names.
OWN_MEMBERS: Final = frozenset({"display_name", "attributes"})


class DeactivateUser(_Command):
    """From now on the user can only be reactivated or erased."""

    reason: Reason | None = None


class ReactivateUser(_Command):
    """The user is active again."""

    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class EraseUser:
    """The person is forgotten: nothing personal stays here, in any read table, or (some days later) in the topic."""


#: The commands that change a registered user.
ChangeCommand = (
    ChangeEmail | VerifyEmail | ChangeUsername | ChangePassword | ChangeProfile | DeactivateUser | ReactivateUser
)
Command = RegistersUser | ChangeCommand | EraseUser
