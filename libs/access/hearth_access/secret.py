"""The secret of an API key: `hearth_<id>_<64 hex digits>`.

It is 256 random bits, so there is nothing to guess and no word list to try: one SHA-256 is enough to store it by, where
a password would need a slow hash. The id in it finds the record; only then are digests compared, in constant time.
"""

import hashlib
import hmac
import secrets

PREFIX = "hearth_"
ID_LENGTH = 12
NO_DIGEST = bytes(32)
"""Compared with where no key has the id, so that an unknown id takes as long as a wrong secret. No text has it."""

_ID_END = len(PREFIX) + ID_LENGTH
LENGTH = _ID_END + 1 + 64


def new_key_id() -> str:
    """A fresh id; the one who stores it makes sure that it is new."""
    return secrets.token_hex(ID_LENGTH // 2)


def new_secret(key_id: str) -> str:
    """A fresh secret for the key of this id."""
    return f"{PREFIX}{key_id}_{secrets.token_hex(32)}"


def key_id_of(secret: bytes) -> str:
    """The id that a secret names; for what is no secret, some text that is no id."""
    return secret[len(PREFIX) : _ID_END].decode("latin-1")


def digest(secret: bytes) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(secret).digest()


def matches(secret: bytes, stored: bytes) -> bool:
    """Whether the digest is this secret's, in a time that does not tell how much of it fits."""
    return hmac.compare_digest(digest(secret), stored)
