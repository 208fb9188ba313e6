"""The routes of one-time tokens: from HTTP to command_api/credentials/one_time_tokens.py, and back."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Response

from chassis.http.api import StrictRoute
from chassis.http.problems import BUSY
from command_api.credentials.tokens import DEFAULT_TTL_SECONDS, RESET, IssuedToken, IssueToken, RedeemToken
from command_api.http.dependencies import SecretContext, Tokens
from command_api.http.openapi import headers, keyless_request, keyless_responses, user_response
from command_api.http.users import PASSWORD_EXAMPLE, AnswerResponse, UserId
from command_api.problems import (
    CONFLICT,
    INVALID_ONE_TIME_TOKEN,
    OUTCOME_UNKNOWN,
    USER_DEACTIVATED,
    USER_NOT_FOUND,
)
from events.user_events import PublicUser

router: Final = APIRouter(route_class=StrictRoute, tags=["one-time tokens"])

TOKEN_EXAMPLE: Final = "kq3fY0u3WmXb1h0nE2cXcTt9o4pJw6sZr8vL5aQdGiM"  # noqa: S105 - an example
_ISSUED: Final[dict[int | str, dict[str, Any]]] = {
    201: {
        "description": "The new token, here for the only time.",
        "headers": headers(),
        "content": {
            "application/json": {
                "example": {"token": TOKEN_EXAMPLE, "purpose": RESET, "expires_at": "2026-11-22T15:15:16.123456Z"}
            }
        },
    }
}


def _request(**example: Any) -> dict[str, Any]:
    return keyless_request(content={"application/json": {"example": example}})


@router.post(
    "/users/{id}/one-time-tokens",
    operation_id="issue_one_time_token",
    summary="Issue a one-time token",
    status_code=201,
    response_model=IssuedToken,
    responses=keyless_responses(USER_NOT_FOUND, USER_DEACTIVATED, success=_ISSUED),
    openapi_extra=_request(purpose=RESET, ttl_seconds=DEFAULT_TTL_SECONDS[RESET]),
)
async def issue_token(user_id: UserId, command: IssueToken, context: SecretContext, tokens: Tokens) -> Response:
    """Makes a token that resets the password, or verifies the address, once. An older one of the purpose ends.

    Send it to the user's address and nowhere else: whoever has it is the user.
    """
    issued = await tokens.issue(user_id, command, context)
    return Response(issued.model_dump_json(), 201, media_type="application/json")


@router.post(
    "/one-time-tokens/redeem",
    operation_id="redeem_one_time_token",
    summary="Redeem a one-time token",
    response_model=PublicUser,
    responses=keyless_responses(
        INVALID_ONE_TIME_TOKEN,
        CONFLICT,
        BUSY,
        OUTCOME_UNKNOWN,
        success=user_response(200, "The user after it.", "Device-Token"),
    ),
    openapi_extra=_request(token=TOKEN_EXAMPLE, password=PASSWORD_EXAMPLE),
)
async def redeem_token(command: RedeemToken, context: SecretContext, tokens: Tokens) -> Response:
    """Sets the new password, or marks the address as verified, and ends the token.

    The token is looked at first; a password that is refused (422) does not use it up.
    """
    return AnswerResponse(await tokens.redeem(command, context))
