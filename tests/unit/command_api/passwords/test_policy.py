"""Which passwords may be chosen, and why another may not."""

import pytest

from command_api.passwords.blocklist import Blocklist
from command_api.passwords.policy import PasswordPolicy
from command_api.settings import CommandApiSettings

POLICY = PasswordPolicy(Blocklist(), 10)


def fault(password: str) -> str | None:
    return POLICY.fault(
        password, email="Ann.Example@example.com", username="ann\u00e9xample", display_name="Ann Stra\u00dfe"
    )


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("nine char", "must have at least 10 characters, whichever; this has 9"),
        # Counted as it is hashed: twelve code points, nine characters.
        ("e\u0301e\u0301e\u0301 f\u00fcnf ", "this has 9"),
        ("PASSWORD123", "on a list of common or leaked passwords"),
        ("ANN.example@EXAMPLE.com", "the user's own e-mail address;"),
        ("ann.EXAMPLE", "the user's own e-mail address up to the @;"),
        ("ANNE\u0301XAMPLE", "the user's own username;"),
        ("ann STRASSE", "the user's own display name;"),
    ],
)
def test_a_refused_password_is_told_why_and_not_repeated(password: str, why: str) -> None:
    said = fault(password)

    assert said is not None
    assert why in said
    assert password not in said


def test_a_name_is_known_in_capitals_whatever_its_letters() -> None:
    name = "\u03c0\u03b1\u03c0\u03b1\u0390\u03c9\u03ac\u03bd\u03bd\u03bf\u03c5"  # of which a casefold decomposes one

    said = POLICY.fault(name.upper(), email="a@example.com", username=name, display_name=None)

    assert said is not None
    assert "own username" in said


@pytest.mark.parametrize(
    "password", ["Ann@xn--mnchen-3ya.example", "ann@M\u00dcNCHEN.example", "ann@mu\u0308nchen.example"]
)
def test_the_own_address_is_known_whatever_the_spelling_of_its_domain(password: str) -> None:
    said = POLICY.fault(password, email="ann@m\u00fcnchen.example", username="ann", display_name=None)

    assert said is not None
    assert "own e-mail address;" in said


@pytest.mark.parametrize("password", ["ten chars!", " " * 10, "ann.example@example.org", "my name is Ann Stra\u00dfe"])
def test_no_kinds_of_characters_are_asked_for(password: str) -> None:
    assert fault(password) is None


def test_who_has_no_display_name_may_have_any() -> None:
    assert POLICY.fault("ten chars!", email="a@example.com", username="ann", display_name=None) is None


def test_the_least_is_what_the_policy_has_without_a_setting() -> None:
    default = CommandApiSettings.model_fields["password_min_length"].default

    assert PasswordPolicy(Blocklist()).min_length == default == 8
