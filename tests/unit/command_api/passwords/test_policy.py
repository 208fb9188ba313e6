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


@pytest.mark.parametrize("password", ["ten chars!", " " * 10, "ann.example@example.org", "my name is Ann Stra\u00dfe"])
def test_no_kinds_of_characters_are_asked_for(password: str) -> None:
    assert fault(password) is None


def test_who_has_no_display_name_may_have_any() -> None:
    assert POLICY.fault("ten chars!", email="a@example.com", username="ann", display_name=None) is None


def test_the_least_is_what_the_policy_has_without_a_setting() -> None:
    default = CommandApiSettings.model_fields["password_min_length"].default

    assert PasswordPolicy(Blocklist()).min_length == default == 8
