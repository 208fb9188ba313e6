"""Which members of a user the console shows, and which it masks."""

import pytest

from console.users.detail import FIELDS
from console.users.masking import shown
from events.user_events import PublicUser

SHOWN_IN_FORMS_OF_THEIR_OWN = {"id", "is_active", "status", "created_at", "updated_at"}


@pytest.mark.parametrize("name", ["email", "username", "display_name", "attributes", "phone"])
def test_what_is_not_known_to_be_harmless_is_masked(name: str) -> None:
    assert shown(name, "+49 30 1234", clear=False) == "+•••"
    assert shown(name, "+49 30 1234", clear=True) == "+49 30 1234"


def test_what_says_nothing_about_the_person_is_shown() -> None:
    assert shown("version", 3, clear=False) == "3"
    assert shown("email_verified", True, clear=False) == "yes"
    assert shown("status", "active", clear=False) == "active"


def test_the_page_of_a_user_lists_every_public_member() -> None:
    assert list(FIELDS.values()) == ["Username", "Address", "Address verified", "Display name", "Attributes", "Version"]
    assert FIELDS.keys() == PublicUser.model_fields.keys() - SHOWN_IN_FORMS_OF_THEIR_OWN
