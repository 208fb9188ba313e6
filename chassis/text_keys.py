"""Case-insensitive keys of names and addresses. They are computed here alone, so that every side agrees.

PostgreSQL's `lower()` and Python's casefold disagree on some letters (the dotted capital I, the sharp s, the final
sigma); therefore keys are made in Python, stored with COLLATE "C", and compared, sorted and searched by code point on
both databases.
"""

from collections.abc import Callable, Sequence
from unicodedata import normalize

import idna


def text_key(text: str) -> str:
    """NFKC, casefolded (Unicode 16.0, section 3.13.3, toNFKC_Casefold but for default ignorables)."""
    if text.isascii():
        # The same result (a test compares them) in a fraction of the time: projectors make two keys a user.
        return text.lower()
    return normalize("NFKC", normalize("NFKC", text).casefold())


def email_key(address: str) -> str:
    """The key of an address, or of the beginning of one: the local part as any text, the domain by its A-labels.

    A domain is mapped as UTS 46 says and encoded under IDNA 2008 (RFC 5891) before anything is folded: casefolding
    would make straße.de the domain strasse.de, which belongs to somebody else. So every spelling of a domain has one
    key. What is no domain has the key of any text.
    """
    if address.isascii():
        return address.lower()
    local, at, domain = address.rpartition("@")
    try:
        return text_key(local) + at + idna.encode(domain, uts46=True).decode() if at else text_key(address)
    except UnicodeError:
        return text_key(address)


def email_keys(addresses: Sequence[str]) -> list[str]:
    """The key of each address; as `text_keys`."""
    return _keys(addresses, email_key)


def text_keys(texts: Sequence[str]) -> list[str]:
    """The key of each text. No text may have a NUL in it; PostgreSQL could not hold one."""
    return _keys(texts, text_key)


def _keys(texts: Sequence[str], key: Callable[[str], str]) -> list[str]:
    joined = "\0".join(texts)
    if joined.isascii():
        # All at once takes a fifth of the time.
        return joined.lower().split("\0")
    return list(map(key, texts))
