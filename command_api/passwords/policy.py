"""The rule on which passwords may be chosen (NIST SP 800-63B-4, 3.1.1.2); docs/explanation/passwords.md has reasons.

Nothing is said of the kinds of characters. The list and the user's own names are compared by NFC and casefold.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Final
from unicodedata import normalize

from command_api.passwords.blocklist_file import folded

#: NIST SP 800-63B-4 has 8 as the least beside another factor, and 15 without one.
LEAST_CHARACTERS: Final = 8
#: 1024 keeps a request small, and nothing is cut off.
MOST_CHARACTERS: Final = 1024
RULES: Final = (
    f"A new password has at least {LEAST_CHARACTERS} characters, or as many as the operator asks for, and at most"
    f" {MOST_CHARACTERS}, whichever they are, counted in NFC. It is on no list of common or leaked passwords, and is"
    " not the user's own e-mail address, the part of that before the @, username or display name, whatever the case."
)


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
        for name, value in own.items():
            if key == folded(value):
                return f"the password is the user's own {name}; choose another one"
        return None
