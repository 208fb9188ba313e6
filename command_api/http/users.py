"""The routes of users: from HTTP to a command, and from an answer to HTTP.

No rules here: command_api/users/handlers.py carries the command to its commit.
"""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Body, Path, Response
from fastapi.routing import APIRoute
from pydantic import BeforeValidator
from starlette.datastructures import State

from chassis.access.guard import Access
from chassis.http.api import StrictRoute
from chassis.http.problems import ProblemType
from chassis.identifiers import canonical
from command_api.access import refuse_beyond
from command_api.http.dependencies import CommandResources, Context, Handlers
from command_api.http.openapi import EXAMPLE_ID, empty_response, request, responses, user_response
from command_api.idempotency.replay import REPLAYED_HEADER, CommandAnswer
from command_api.problems import (
    EMAIL_NOT_CURRENT,
    EMAIL_TAKEN,
    KEYS_USED_UP,
    STALE_VERSION,
    TOO_MANY_ATTEMPTS,
    USER_DEACTIVATED,
    USER_NOT_FOUND,
    USERNAME_TAKEN,
    WRONG_PASSWORD,
)
from command_api.users.commands import (
    ChangeCommand,
    ChangeEmail,
    ChangePassword,
    ChangeProfile,
    ChangeUsername,
    DeactivateUser,
    EraseUser,
    ReactivateUser,
    RegisterUser,
    VerifyEmail,
)
from command_api.users.context import CommandContext
from events.user_events import PublicUser


class UserRoute(StrictRoute):
    """A route of users; what a body asks for beyond its token is told before what else is wrong with it."""

    def judge(self, access: Access, document: Any, state: State) -> None:
        """Refuse members that the caller may not send."""
        opened: CommandResources = state.resources
        refuse_beyond(self.path, access, document, opened.own_attributes)


class MergePatchRoute(UserRoute):
    """A route that takes a merge patch, under its own media type or as plain JSON."""

    media_types = ("application/merge-patch+json", "application/json")


PASSWORD_EXAMPLE: Final = "correct horse battery staple"  # noqa: S105 - an example
UserId = Annotated[
    UUID, BeforeValidator(canonical), Path(alias="id", description="The user's id.", examples=[EXAMPLE_ID])
]

router: Final = APIRouter(route_class=UserRoute, tags=["users"])
patches: Final = APIRouter(route_class=MergePatchRoute, tags=["users"])


#: The problems that any change of a user can be answered with.
_ANY_CHANGE: Final = (USER_NOT_FOUND, STALE_VERSION, KEYS_USED_UP)


def _shows_user(*problems: ProblemType, change: bool = True, **example: Any) -> dict[str, Any]:
    """The document's entry of a command that answers with the user."""
    described = user_response(200, "The user after the command.", REPLAYED_HEADER) if change else _CREATED
    kinds = (*_ANY_CHANGE, USER_DEACTIVATED, *problems) if change else problems
    return {
        "response_model": PublicUser,
        "responses": responses(*kinds, body=True, success=described),
        "openapi_extra": request(if_match=change, examples={"application/json": example}),
    }


def _shows_nothing(
    description: str, *problems: ProblemType, more_headers: tuple[str, ...] = (), **example: Any
) -> dict[str, Any]:
    """The document's entry of a command that answers with nothing."""
    kinds = (*_ANY_CHANGE, *problems)
    return {
        "status_code": 204,
        "response_class": Response,
        "responses": responses(
            *kinds, body=bool(example), success=empty_response(description, REPLAYED_HEADER, *more_headers)
        ),
        "openapi_extra": request(if_match=True, examples={"application/json": example} if example else None),
    }


def _patches_user(**example: Any) -> dict[str, Any]:
    """As `_shows_user`, for a body that may have either of two media types."""
    described = _shows_user()
    described["openapi_extra"] = request(if_match=True, examples=dict.fromkeys(MergePatchRoute.media_types, example))
    plain = described["openapi_extra"]["requestBody"]["content"]["application/json"]
    plain["schema"] = {"$ref": f"#/components/schemas/{ChangeProfile.__name__}"}
    return described


def commands() -> list[APIRoute]:
    """The routes of all commands."""
    return [route for known in (router, patches) for route in known.routes if isinstance(route, APIRoute)]


_CREATED: Final = user_response(201, "The new user.", REPLAYED_HEADER, "Location")


@router.post(
    "/users",
    operation_id="register_user",
    summary="Register a user",
    status_code=201,
    **_shows_user(
        EMAIL_TAKEN,
        USERNAME_TAKEN,
        change=False,
        email="ann@example.com",
        username="ann",
        password=PASSWORD_EXAMPLE,
        display_name="Ann Example",
        attributes={"plan": "pro"},
    ),
)
async def register_user(command: RegisterUser, context: Context, handlers: Handlers) -> Response:
    """Registers a user, active, with an address that is not verified. E-mail and username are unique, whatever case."""
    return AnswerResponse(await handlers.register(command, context))


@router.put(
    "/users/{id}/email",
    operation_id="change_email",
    summary="Change the e-mail address",
    **_shows_user(EMAIL_TAKEN, email="ann@example.org"),
)
async def change_email(user_id: UserId, command: ChangeEmail, context: Context, handlers: Handlers) -> Response:
    """Sets another address, which then has to be verified. The same address again changes nothing."""
    return await _change(handlers, user_id, command, context)


@router.post(
    "/users/{id}/email/verify",
    operation_id="verify_email",
    summary="Mark the e-mail address as verified",
    **_shows_user(EMAIL_NOT_CURRENT, email="ann@example.com"),
)
async def verify_email(user_id: UserId, command: VerifyEmail, context: Context, handlers: Handlers) -> Response:
    """Verifies the current address, which the body repeats, so that a late answer cannot verify another one."""
    return await _change(handlers, user_id, command, context)


@router.put(
    "/users/{id}/username",
    operation_id="change_username",
    summary="Change the username",
    **_shows_user(USERNAME_TAKEN, username="ann.example"),
)
async def change_username(user_id: UserId, command: ChangeUsername, context: Context, handlers: Handlers) -> Response:
    """Sets another name. The same name again changes nothing."""
    return await _change(handlers, user_id, command, context)


@router.put(
    "/users/{id}/password",
    operation_id="change_password",
    summary="Change the password",
    **_shows_nothing(
        "The password was changed.",
        WRONG_PASSWORD,
        TOO_MANY_ATTEMPTS,
        USER_DEACTIVATED,
        more_headers=("Device-Token",),
        password=PASSWORD_EXAMPLE,
    ),
)
async def change_password(user_id: UserId, command: ChangePassword, context: Context, handlers: Handlers) -> Response:
    """Sets another password. With `current_password` that is checked first; without it this is a reset."""
    return await _change(handlers, user_id, command, context)


@patches.patch(
    "/users/{id}/profile",
    operation_id="change_profile",
    summary="Change the profile",
    **_patches_user(display_name="Ann", attributes={"plan": None}),
)
async def change_profile(
    user_id: UserId,
    command: Annotated[ChangeProfile, Body(media_type="application/merge-patch+json")],
    context: Context,
    handlers: Handlers,
) -> Response:
    """Applies a merge patch (RFC 7396) to display name and attributes: what is absent stays, null removes."""
    return await _change(handlers, user_id, command, context)


@router.post(
    "/users/{id}/deactivate",
    operation_id="deactivate_user",
    summary="Deactivate a user",
    **_shows_user(reason="asked by the user"),
)
async def deactivate_user(
    user_id: UserId, context: Context, handlers: Handlers, command: DeactivateUser | None = None
) -> Response:
    """From now on the user can only be reactivated or erased. Deactivating the deactivated changes nothing."""
    return await _change(handlers, user_id, command or DeactivateUser(), context)


@router.post(
    "/users/{id}/reactivate",
    operation_id="reactivate_user",
    summary="Reactivate a user",
    **_shows_user(reason="came back"),
)
async def reactivate_user(
    user_id: UserId, context: Context, handlers: Handlers, command: ReactivateUser | None = None
) -> Response:
    """The user is active again. Reactivating the active changes nothing."""
    return await _change(handlers, user_id, command or ReactivateUser(), context)


@router.delete(
    "/users/{id}",
    operation_id="erase_user",
    summary="Erase a person",
    **_shows_nothing("The person is forgotten."),
)
async def erase_user(user_id: UserId, context: Context, handlers: Handlers) -> Response:
    """Forgets the person: here at once, on the read side in a moment, in the topic within days. Cannot be undone."""
    return await _change(handlers, user_id, EraseUser(), context)


async def _change(
    handlers: Handlers, user_id: UUID, command: ChangeCommand | EraseUser, context: CommandContext
) -> Response:
    return AnswerResponse(await handlers.change(user_id, command, context))


class AnswerResponse(Response):
    """An answer as it is. As nothing is derived, this costs a fifth of the framework's own response."""

    def __init__(self, answer: CommandAnswer) -> None:
        self.status_code = answer.status
        self.background = None
        self.body = answer.body or b""
        self.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()
        ]
        if answer.body is not None:
            length = (b"content-length", b"%d" % len(answer.body))
            self.raw_headers += [length, (b"content-type", b"application/json")]
