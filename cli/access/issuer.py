"""`muster issuer init|rotate`: an issuer of one's own in a folder, for a local stack or a first installation."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from cli.terminal.output import fail, say
from local_stack import issuer as issuers
from local_stack.issuer_files import KEY_SET, LOCAL_AUDIENCE, LOCAL_ISSUER, NoIssuerError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Keep an issuer of tokens in a folder.", rich_markup_mode="rich"
)

Folder = Annotated[Path, typer.Argument(help="The issuer's folder.", file_okay=False)]


@app.command()
def init(
    folder: Folder,
    issuer: Annotated[str, typer.Option(help="Its name: AUTH_ISSUER.")] = LOCAL_ISSUER,
    audience: Annotated[str, typer.Option(help="Whom its tokens are for: AUTH_AUDIENCE.")] = LOCAL_AUDIENCE,
) -> None:
    """Make an issuer: a private key that signs, a key set that verifies, and its name."""
    try:
        made = issuers.init_issuer(folder, issuer=issuer, audience=audience)
    except issuers.IssuerExistsError as error:
        fail(f"No issuer was made: {error}")
    except OSError as error:
        fail(f"No issuer was made: {error.filename or folder}: {error.strerror}.")
    say(f"AUTH_ISSUER={made.issuer}")
    say(f"AUTH_AUDIENCE={made.audience}")
    say(f"AUTH_JWKS_FILE={(folder / KEY_SET).absolute()}")


@app.command()
def rotate(
    folder: Folder,
    *,
    remove: Annotated[
        bool, typer.Option("--remove", help="End the older key instead: its tokens are refused.")
    ] = False,
) -> None:
    """Sign with a new key from now on; the older one verifies until it is removed."""
    try:
        current = issuers.remove_older_keys(folder) if remove else issuers.rotate(folder)
    except NoIssuerError as error:
        fail(f"Nothing was changed: {error}")
    except OSError as error:
        fail(f"Nothing was changed: {error.filename or folder}: {error.strerror}.")
    if remove:
        say(f"Key {current.key_id} is the only one; services notice within AUTH_JWKS_REFRESH_SECONDS.")
        return
    say(f"Key {current.key_id} signs from now on; the older one still verifies.")
    say(f"Once its last token has expired: `muster issuer rotate {quote(str(folder))} --remove`")
