"""Case-insensitive keys of names and addresses: computed here and nowhere else, so that every side agrees.

PostgreSQL's `lower()` and Python's casefold disagree on some letters (the dotted capital I, the sharp s, the final
sigma); therefore keys are made in Python, stored with COLLATE "C", and compared, sorted and searched by code point on
both databases.
"""

from unicodedata import normalize


def text_key(text: str) -> str:
    """NFKC, casefolded (Unicode 16.0, section 3.13.3, toNFKC_Casefold but for default ignorables)."""
    if text.isascii():
        # The same, as tests hold it to, in a fraction of the time: projectors make two keys a user.
        return text.lower()
    return normalize("NFKC", normalize("NFKC", text).casefold())
