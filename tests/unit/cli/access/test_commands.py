"""`muster token` and `muster issuer` from outside: what they print, their exits, what they leave."""

import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest

from cli.access.scopes import SCOPES
from tests.unit.cli.access.conftest import Muster, RunStack


def claims(muster: Muster, *options: str) -> dict[str, Any]:
    code, out, err = muster("token", *options)
    assert (code, err, out.count("\n")) == (0, "", 1)
    decoded: dict[str, Any] = jwt.decode(out.strip(), options={"verify_signature": False})
    return decoded


def test_a_token_is_alone_on_a_line_an_operators_and_good_for_twelve_hours(muster: Muster) -> None:
    said = claims(muster)

    assert said["scope"].split() == list(SCOPES)
    assert (said["iss"], said["aud"], said["sub"]) == ("muster-local", "muster", "operator")
    assert said["exp"] - said["iat"] == 12 * 3600
    assert abs(said["iat"] - datetime.now(UTC).timestamp()) < 60


def test_every_part_of_a_token_can_be_chosen(muster: Muster) -> None:
    user = str(uuid4())
    said = claims(muster, "--scope", "self users:read", "--sub", user, "--ttl", "90s", "--audience", "other")

    assert (said["scope"], said["sub"], said["aud"]) == ("self users:read", user, "other")
    assert said["exp"] - said["iat"] == 90


def test_beside_a_running_stack_a_token_is_for_whom_the_stack_says(muster: Muster, run_stack: RunStack) -> None:
    run_stack(AUTH_AUDIENCE="people")

    assert claims(muster)["aud"] == "people"
    assert claims(muster, "--audience", "other")["aud"] == "other"


def test_a_scope_that_muster_does_not_know_is_taken_where_it_is_meant(muster: Muster) -> None:
    assert claims(muster, "--scope", "shop:read users:read", "--any-scope")["scope"] == "shop:read users:read"


@pytest.mark.parametrize(("ttl", "seconds"), [("1s", 1), ("5m", 300), ("2h", 7200), ("7d", 604_800)])
def test_a_lifetime_is_a_number_and_a_unit(muster: Muster, ttl: str, seconds: int) -> None:
    said = claims(muster, "--ttl", ttl)

    assert said["exp"] - said["iat"] == seconds


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ttl", "12"], "--ttl 12 must be a number and a unit"),
        (["--ttl", "0h"], "--ttl 0h"),
        (
            ["--scope", "users:raed self all"],
            "--scope: users:raed, all opens nothing; there are users:read, users:register",
        ),
        (["--sub", "cli:root"], "--sub is empty or reserved"),
        (["--sub", ""], "--sub is empty or reserved"),
        (["--sub", "x" * 256], "--sub has more than 255 characters"),
    ],
)
def test_what_no_service_would_accept_is_wrong_use(muster: Muster, options: list[str], words: str) -> None:
    code, out, err = muster("token", *options)

    assert (code, out) == (2, "")
    assert words in " ".join(err.split())


def test_without_a_stack_it_says_how_to_start_one(
    muster: Muster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSTER_FOLDER", str(folder / "none"))
    code, out, err = muster("token")

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "`muster up`" in err
    assert not (folder / "none").exists()


def test_an_issuer_anywhere_can_be_named(muster: Muster, folder: Path) -> None:
    other, none = str(folder / "other"), str(folder / "none")
    muster("issuer", "init", other, "--issuer", "https://login.example.com", "--audience", "users")

    said = claims(muster, "--issuer", other)

    assert (said["iss"], said["aud"]) == ("https://login.example.com", "users")
    assert muster("token", "--issuer", none) == (
        1,
        "",
        f"No token: {none} has no issuer: `muster issuer init {none}` makes one.\n",
    )


def test_init_prints_the_settings_of_whoever_is_to_trust_it(muster: Muster, folder: Path) -> None:
    code, out, _ = muster("issuer", "init", "new")

    assert code == 0
    assert out.splitlines() == [
        "AUTH_ISSUER=muster-local",
        "AUTH_AUDIENCE=muster",
        f"AUTH_JWKS_FILE={folder / 'new' / 'jwks.json'}",
    ]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder / "new").iterdir()}
    assert modes == {"private.pem": 0o600, "jwks.json": 0o644, "issuer.json": 0o600}


def test_init_never_replaces_an_issuer(muster: Muster, folder: Path) -> None:
    key = (folder / "issuer" / "private.pem").read_text()
    code, out, err = muster("issuer", "init", str(folder / "issuer"))

    assert (code, out, "muster issuer rotate" in err) == (1, "", True)
    assert (folder / "issuer" / "private.pem").read_text() == key


def test_a_rotation_keeps_the_older_key_until_it_is_removed(muster: Muster, folder: Path) -> None:
    issuer = folder / "issuer"

    def key_ids() -> int:
        return (issuer / "jwks.json").read_text().count('"kid"')

    rotated = muster("issuer", "rotate", str(issuer))
    both = key_ids()
    removed = muster("issuer", "rotate", str(issuer), "--remove")

    assert (rotated[0], both, removed[0], key_ids()) == (0, 2, 0, 1)
    assert f"muster issuer rotate {issuer} --remove" in rotated[1]
    assert stat.S_IMODE((issuer / "private.pem").stat().st_mode) == 0o600


def test_a_rotation_of_nothing_says_so(muster: Muster, folder: Path) -> None:
    none = folder / "none"

    assert muster("issuer", "rotate", str(none)) == (
        1,
        "",
        f"Nothing was changed: {none} has no issuer: `muster issuer init {none}` makes one.\n",
    )


@pytest.mark.parametrize("name", ["private.pem", "issuer.json", "jwks.json"])
def test_the_way_out_that_a_damaged_issuer_names_works(muster: Muster, folder: Path, name: str) -> None:
    issuer = folder / "issuer"
    (issuer / name).write_text("damaged")
    code, _, err = muster("issuer", "rotate", str(issuer))

    assert (code, f"because of {name}" in err, "move the folder away" in err) == (1, True, True)
    issuer.rename(folder / "away")
    assert muster("issuer", "init", str(issuer))[0] == 0


def test_a_folder_that_cannot_be_made_is_one_sentence(muster: Muster, folder: Path) -> None:
    (folder / "file").write_text("")
    code, _, err = muster("issuer", "init", str(folder / "file" / "issuer"))

    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"No issuer was made: {folder / 'file'}")
    assert "Errno" not in err
