"""The route that verifies credentials: from HTTP to command_api/credentials/verification.py, and back."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from chassis.http.api import StrictRoute
from chassis.http.problems import BUSY
from command_api.credentials.verification import VerifyCredentials
from command_api.http.dependencies import LogInsOfApp, SecretContext
from command_api.http.openapi import NEW_USER_EXAMPLE, headers, keyless_request, keyless_responses
from command_api.http.users import PASSWORD_EXAMPLE, AnswerResponse
from command_api.problems import INVALID_CREDENTIALS, TOO_MANY_ATTEMPTS
from events.user_events import PublicUser

router: Final = APIRouter(route_class=StrictRoute, tags=["credentials"])

VERIFY_PATH: Final = "/credentials/verify"

DEVICE_TOKEN_EXAMPLE: Final = "AQGS8MF6PnxOnVMKbx0cKzo" + 96 * "A"
_VERIFIED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The user, and a token by which the device is known from now on.",
        "headers": headers("ETag", "Consistency-Token"),
        "content": {"application/json": {"example": {"user": NEW_USER_EXAMPLE, "device_token": DEVICE_TOKEN_EXAMPLE}}},
    }
}


def commands() -> list[APIRoute]:
    """The routes that the fast path serves."""
    return [route for route in router.routes if isinstance(route, APIRoute)]


class VerifiedCredentials(BaseModel):
    """Who logged in."""

    user: PublicUser
    device_token: str


@router.post(
    VERIFY_PATH,
    operation_id="verify_credentials",
    summary="Verify a password",
    response_model=VerifiedCredentials,
    responses=keyless_responses(INVALID_CREDENTIALS, TOO_MANY_ATTEMPTS, BUSY, success=_VERIFIED),
    openapi_extra=keyless_request(
        content={"application/json": {"example": {"identifier": "ann@example.com", "password": PASSWORD_EXAMPLE}}}
    ),
)
async def verify_credentials(command: VerifyCredentials, context: SecretContext, log_ins: LogInsOfApp) -> Response:
    """Says who has this identifier and this password. Whatever is wrong, the answer is the same.

    After ten failures within an hour further attempts are refused for a while, unread; a device that sends the
    `device_token` of its last success is counted by itself. Publishes nothing.
    """
    return AnswerResponse(await log_ins.verify(command, context.cause))
