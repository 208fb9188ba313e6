"""A process that is told nothing about access does not start, and says both ways out."""

from pathlib import Path

import pytest

from chassis.access.settings import AccessSettings
from chassis.settings import load
from chassis.settings_error import SettingsError

ISSUER = "https://login.example.com/realms/shop"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for field in AccessSettings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)


def loaded(monkeypatch: pytest.MonkeyPatch, **variables: str) -> AccessSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load(AccessSettings)


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({}, "AUTH_ISSUER is missing"),
        ({"AUTH_DISABLED": "false"}, "AUTH_ISSUER is missing"),
        ({"AUTH_ISSUER": ISSUER}, "AUTH_AUDIENCE is missing"),
        ({"AUTH_AUDIENCE": "muster"}, "AUTH_ISSUER is missing"),
        ({"AUTH_ISSUER": ISSUER, "AUTH_AUDIENCE": "muster", "AUTH_DISABLED": "true"}, "both set"),
    ],
)
def test_what_is_missing_is_named_with_both_ways_out(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], names: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        loaded(monkeypatch, **variables).expectations("127.0.0.1")

    (line,) = refused.value.lines
    assert names in line
    assert "AUTH_AUDIENCE=muster" in line
    assert "AUTH_DISABLED=true" in line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "muster.example.com", ""])
def test_access_is_switched_off_on_a_loopback_address_alone(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    settings = loaded(monkeypatch, AUTH_DISABLED="true")

    assert settings.expectations("127.0.0.1") is None
    assert settings.expectations("::1") is None
    assert settings.expectations("localhost") is None
    with pytest.raises(SettingsError, match="AUTH_DISABLED is not for an address that others reach"):
        settings.expectations(host)


@pytest.mark.parametrize(
    "issuer", ["muster-local", "http://login.example.com", "ftp://x", "https://", "https://x:port"]
)
def test_an_issuer_that_is_no_address_needs_its_keys_named(monkeypatch: pytest.MonkeyPatch, issuer: str) -> None:
    with pytest.raises(SettingsError, match=r"AUTH_JWKS_FILE=/etc/muster/jwks\.json"):
        loaded(monkeypatch, AUTH_ISSUER=issuer, AUTH_AUDIENCE="muster").expectations("0.0.0.0")

    found = loaded(monkeypatch, AUTH_JWKS_FILE="/etc/keys.json").expectations("0.0.0.0")
    assert found is not None
    assert (found.issuer, found.audience, found.leeway_seconds) == (issuer, "muster", 30)


@pytest.mark.parametrize("algorithms", ["HS256", "none", "RS256,HS512", "", ",", "EdDSA;RS256"])
def test_only_asymmetric_algorithms_exist(monkeypatch: pytest.MonkeyPatch, algorithms: str) -> None:
    if not algorithms:  # empty means absent
        assert loaded(monkeypatch, AUTH_ALGORITHMS="").auth_algorithms == ("EdDSA", "ES256", "PS256", "RS256")
        return
    with pytest.raises(SettingsError, match="AUTH_ALGORITHMS is wrong: must be of EdDSA"):
        loaded(monkeypatch, AUTH_ALGORITHMS=algorithms)


def test_algorithms_are_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(monkeypatch, AUTH_ALGORITHMS="ES256, RS512").auth_algorithms == ("ES256", "RS512")


@pytest.mark.parametrize("url", ["http://login.example.com/jwks.json", "file:///etc/keys", "login.example.com"])
def test_keys_come_over_https_or_from_this_machine(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert loaded(monkeypatch, AUTH_JWKS_URL="http://127.0.0.1:9999/jwks").auth_jwks_url
    with pytest.raises(SettingsError, match="AUTH_JWKS_URL is wrong: must be an https address"):
        loaded(monkeypatch, AUTH_JWKS_URL=url)


def test_two_places_of_the_keys_are_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    both = loaded(
        monkeypatch,
        AUTH_ISSUER=ISSUER,
        AUTH_AUDIENCE="muster",
        AUTH_JWKS_FILE="/etc/keys.json",
        AUTH_JWKS_URL="https://login.example.com/keys",
    )

    with pytest.raises(SettingsError, match="AUTH_JWKS_FILE and AUTH_JWKS_URL are both set"):
        both.expectations("127.0.0.1")
