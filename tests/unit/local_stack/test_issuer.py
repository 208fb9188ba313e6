"""The local issuer's tokens are accepted by a service that reads its key set, and its rotations leave no gap."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chassis.access.authenticator import Authenticator
from chassis.access.caller import Caller
from chassis.access.issuer_keys import IssuerKeys
from chassis.access.key_sources import key_source
from chassis.access.tokens import Expectations
from chassis.http.problems import Problem
from local_stack.issuer import (
    IssuerExistsError,
    LocalIssuer,
    init_issuer,
    open_issuer,
    remove_older_keys,
    rotate,
)
from local_stack.issuer_files import NoIssuerError

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def token(issuer: LocalIssuer) -> str:
    return issuer.token(subject="operator", scopes=["users:read"], lifetime=timedelta(hours=1), now=NOW)


async def caller(folder: Path, text: str) -> Caller:
    expected = Expectations("muster-local", "muster", ("EdDSA",), 30)
    source = key_source(issuer=expected.issuer, file=folder / "jwks.json", url=None)
    async with IssuerKeys.open(source, refresh_seconds=300) as keys:
        return await Authenticator(expected, keys, now=NOW.timestamp).authenticate(f"Bearer {text}")


async def test_a_token_of_a_new_issuer_is_accepted(tmp_path: Path) -> None:
    found = await caller(tmp_path, token(init_issuer(tmp_path)))

    assert found.subject == "operator"
    assert found.scopes == {"users:read"}


def test_the_private_key_is_its_owners_alone(tmp_path: Path) -> None:
    init_issuer(tmp_path)

    assert stat.S_IMODE((tmp_path / "private.pem").stat().st_mode) == 0o600
    assert (tmp_path / "private.pem").read_text().startswith("-----BEGIN PRIVATE KEY-----")
    assert "d" not in (tmp_path / "jwks.json").read_text().split('"')


def test_an_issuer_is_never_replaced_by_mistake(tmp_path: Path) -> None:
    before = init_issuer(tmp_path).key_id
    with pytest.raises(IssuerExistsError, match="muster issuer rotate"):
        init_issuer(tmp_path)

    assert open_issuer(tmp_path).key_id == before


async def test_older_keys_verify_until_they_are_removed(tmp_path: Path) -> None:
    first = token(init_issuer(tmp_path))
    second = token(rotate(tmp_path))
    third = token(rotate(tmp_path))

    for text in (first, second, third):
        assert (await caller(tmp_path, text)).subject == "operator"
    remove_older_keys(tmp_path)
    for text in (first, second):
        with pytest.raises(Problem):
            await caller(tmp_path, text)
    assert (await caller(tmp_path, third)).subject == "operator"


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"issuer":"x"}'])
def test_a_folder_without_an_issuer_says_how_to_make_one(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        init_issuer(tmp_path)
        (tmp_path / "issuer.json").write_text(text)
    with pytest.raises(NoIssuerError, match="muster issuer init"):
        open_issuer(tmp_path)
