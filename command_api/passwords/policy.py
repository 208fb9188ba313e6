"""The rule on which passwords may be chosen (NIST SP 800-63B-4, 3.1.1.2); docs/explanation/passwords.md has reasons.

Nothing is said of the kinds of characters. The list and the user's own names are compared whatever the case and the
Unicode form, the address also whatever the spelling of its domain.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from unicodedata import normalize

from chassis.text_keys import email_key
from command_api.passwords.blocklist_file import folded
from command_api.passwords.rules import LEAST_CHARACTERS


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """Judges new passwords; hashes that are imported are exempt, and so is the current password."""

    blocklist: Container[str]
    min_length: int = LEAST_CHARACTERS

    def fault(self, password: str, *, email: str, username: str, display_name: str | None) -> str | None:
        """The first thing that is wrong with a new password of this user, None where nothing is.

        One sentence for the client, which never repeats the password.
        """
        length = len(normalize("NFC", password))
        if length < self.min_length:
            return f"the password must have at least {self.min_length} characters, whichever; this has {length}"
        if password in self.blocklist:
            return "the password is on a list of common or leaked passwords; choose one that nobody else would"
        key = folded(password)
        own = {
            "e-mail address": email,
            "e-mail address up to the @": email.rpartition("@")[0],
            "username": username,
            "display name": display_name or "",
        }
        if "@" in password and email_key(password) == email_key(email):
            key = folded(email)  # another spelling of the domain
        for name, value in own.items():
            if key == folded(value):
                return f"the password is the user's own {name}; choose another one"
        return None
