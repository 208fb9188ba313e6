"""`muster token`: an access token of a local issuer, alone on a line."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from chassis.access.caller import SELF, InvalidActorError, encode_actor
from chassis.clock import utc_now
from cli.access.scopes import SCOPES, unknown_scopes
from cli.stack.discovery import issuer_folder, running_stack, stack_folder
from cli.terminal.output import fail, say
from local_stack.issuer import open_issuer
from local_stack.issuer_files import NoIssuerError

DEFAULT_SUBJECT: Final = "operator"
_LIFETIME: Final = re.compile(r"(?P<number>[1-9]\d{0,5})(?P<unit>[smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def token(  # noqa: PLR0913, PLR0917 - each is an option of the command
    scope: Annotated[str, typer.Option(help="Scopes, separated by spaces; default: every one but self.")] = " ".join(
        SCOPES
    ),
    sub: Annotated[str, typer.Option(help="Whom the token is of: for scope self a user's id.")] = DEFAULT_SUBJECT,
    ttl: Annotated[str, typer.Option(help="How long it is good: a number and s, m, h or d.")] = "12h",
    any_scope: Annotated[bool, typer.Option("--any-scope", help="Take scopes that Muster does not know.")] = False,
    audience: Annotated[str | None, typer.Option(help="Default: the running stack's, else the issuer's.")] = None,
    issuer: Annotated[
        Path | None, typer.Option(help="The issuer's folder; default: that of the local stack.", file_okay=False)
    ] = None,
) -> None:
    """Print an access token, signed by a local issuer."""
    lifetime = read_lifetime(ttl)
    unknown = unknown_scopes(scope)
    if unknown and not any_scope:
        known = ", ".join((*SCOPES, SELF))
        fail(f"--scope: {', '.join(unknown)} opens nothing; there are {known} (--any-scope takes others too).", code=2)
    try:
        encode_actor(sub)
    except InvalidActorError as error:
        fail(f"--sub {error}: no service would accept the token.", code=2)
    try:
        opened = open_issuer(issuer or issuer_folder(stack_folder()))
    except NoIssuerError as error:
        start = "" if issuer else " A local stack makes its own: start it with `make up` or `muster up`."
        fail(f"No token: {error}{start}")
    whom = audience or (None if issuer else _stacks_audience())
    say(opened.token(subject=sub, scopes=scope.split(), lifetime=lifetime, now=utc_now(), audience=whom))


def _stacks_audience() -> str | None:
    """The audience of the running stack's tokens, None without one: AUTH_AUDIENCE goes before what its issuer says."""
    stack = running_stack(stack_folder())
    return stack.settings.get("AUTH_AUDIENCE") if stack else None


def read_lifetime(text: str) -> timedelta:
    """A number and its unit, such as `12h`; ends the command where it is neither."""
    found = _LIFETIME.fullmatch(text)
    if found is None:
        fail(f"--ttl {text} must be a number and a unit (s, m, h, d), such as 12h.", code=2)
    return timedelta(**{_UNITS[found["unit"]]: int(found["number"])})
