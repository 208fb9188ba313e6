"""What is asked of a new password, in a sentence and in numbers: for who judges one, and for those who tell of it."""

from typing import Final

#: NIST SP 800-63B-4 has 8 as the least beside another factor, and 15 without one.
LEAST_CHARACTERS: Final = 8
#: 1024 keeps a request small, and nothing is cut off.
MOST_CHARACTERS: Final = 1024
RULES: Final = (
    f"A new password has at least {LEAST_CHARACTERS} characters, or as many as the operator asks for, and at most"
    f" {MOST_CHARACTERS}, whichever they are, counted in NFC. It is on no list of common or leaked passwords, and is"
    " not the user's own e-mail address, the part of that before the @, username or display name, whatever the case."
)
