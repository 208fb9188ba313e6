"""`muster console link`: a link that signs in to the console, once, as the operator of a local issuer."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from chassis.access.settings import AccessSettings
from chassis.clock import utc_now
from chassis.postgres.database import session
from chassis.settings import OperatorQueryPostgres, load
from cli.access.scopes import SCOPES
from cli.access.token import DEFAULT_SUBJECT
from cli.stack.discovery import issuer_folder, stack_folder
from cli.terminal.outages import OUTAGES, explain_outage
from cli.terminal.output import fail, say
from console.sign_in.links import make_link
from console.sign_in.settings import ConsoleAddress, ConsoleSecrets
from local_stack.issuer import LocalIssuer, open_issuer
from local_stack.issuer_files import NoIssuerError

#: The link's token is good for so long, and a session of it at most.
_TOKEN_LIFETIME: Final = timedelta(hours=8)

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Sign in to the console.")


class LinkSettings(OperatorQueryPostgres, ConsoleAddress, ConsoleSecrets, AccessSettings):
    """The settings on where links are kept, what seals them, and whom the console trusts."""


@app.callback()
def _group() -> None:
    """Sign in to the console."""


@app.command()
def link(
    issuer: Annotated[
        Path | None, typer.Option(help="The issuer's folder; default: that of the local stack.", file_okay=False)
    ] = None,
) -> None:
    """Print a link that signs in once, within 10 minutes, for 8 hours, with every scope but self."""
    settings = load(LinkSettings)
    try:
        opened = open_issuer(issuer or issuer_folder(stack_folder()))
    except NoIssuerError as error:
        fail(f"No link: {error} Without an issuer of one's own one signs in with the identity provider.")
    if settings.auth_issuer != opened.issuer:
        trusted = settings.auth_issuer or "nobody: AUTH_ISSUER is not set"
        fail(f"No link: the console would not take its token, which is of {opened.issuer}; it trusts {trusted}.")
    try:
        say(asyncio.run(new_link(settings, opened)))
    except OUTAGES as error:
        explain_outage(error)


async def new_link(settings: LinkSettings, issuer: LocalIssuer) -> str:
    """A link with a new token of the issuer's.

    Raises:
        OSError, TimeoutError, PostgresError: the query database does not answer.
    """
    now = utc_now()
    token = issuer.token(
        subject=DEFAULT_SUBJECT,
        scopes=SCOPES,
        lifetime=_TOKEN_LIFETIME,
        now=now,
        audience=settings.auth_audience,
    )
    async with session(settings.query_database, application="muster-console-link") as connection:
        return await make_link(connection, settings.seals, token, address=settings.public_console_url, now=now)
