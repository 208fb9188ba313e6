"""The settings of one query API process."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import replace
from typing import Final

from pydantic import AliasChoices, Field, SecretStr, field_validator

from chassis.access.settings import LimitedReads
from chassis.postgres_address.hosts import SessionAttributes
from chassis.settings import PostgresAddress, QueryPostgres

#: AES-256.
KEY_BYTES: Final = 32
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,16}")
_EXAMPLE_KEYS = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"


class QueryApiSettings(QueryPostgres, LimitedReads):
    """The query API's variables."""

    query_api_host: str = Field("127.0.0.1", validation_alias="QUERY_API_HOST", min_length=1, examples=["127.0.0.1"])
    query_api_port: int = Field(8001, ge=1, le=65535, validation_alias="QUERY_API_PORT", examples=[8001])
    #: Health with its reasons, and metrics, without a token: for the inside alone.
    query_api_ops_host: str = Field("127.0.0.1", validation_alias="QUERY_API_OPS_HOST", examples=["127.0.0.1"])
    query_api_ops_port: int = Field(8011, ge=1, le=65535, validation_alias="QUERY_API_OPS_PORT", examples=[8011])
    # Any server will do: a query API beside a standby reads it, and any other goes on while a server is away.
    query_postgres_target_session_attrs: SessionAttributes = Field(
        "any",
        validation_alias=AliasChoices("QUERY_POSTGRES_TARGET_SESSION_ATTRS", "POSTGRES_TARGET_SESSION_ATTRS"),
        examples=["prefer-standby"],
    )
    cursor_keys: SecretStr = Field(validation_alias="CURSOR_KEYS", examples=[_EXAMPLE_KEYS])
    # A waiting request holds a few KiB and no connection; more than a thousand are a fault of a client.
    query_waiters: int = Field(1000, ge=1, le=100_000, validation_alias="QUERY_WAITERS", examples=[1000])
    # A page by an index takes a millisecond; a rare mix of filters may scan, within this limit.
    query_statement_ms: int = Field(3000, ge=10, le=60_000, validation_alias="QUERY_STATEMENT_MS", examples=[3000])
    # Counting a million rows takes a tenth of a second.
    query_count_ms: int = Field(2000, ge=1, le=60_000, validation_alias="QUERY_COUNT_MS", examples=[2000])
    # Digesting a million users takes some three seconds.
    query_digest_ms: int = Field(10_000, ge=1, le=60_000, validation_alias="QUERY_DIGEST_MS", examples=[10_000])

    @field_validator("cursor_keys")
    @classmethod
    def _readable(cls, value: SecretStr) -> SecretStr:
        parse_keys(value.get_secret_value())
        return value

    @property
    def query_database(self) -> PostgresAddress:
        """The address of the query database, and whether a standby will do."""
        return replace(super().query_database, session_attributes=self.query_postgres_target_session_attrs)

    @property
    def cursor_key_ring(self) -> dict[str, bytes]:
        """The keys by id; the first encrypts, all decrypt."""
        return parse_keys(self.cursor_keys.get_secret_value())


def parse_keys(text: str) -> dict[str, bytes]:
    """Read `id:key` pairs separated by commas, in their order.

    Raises:
        ValueError: a pair is malformed, an id comes twice or a key is not 32 bytes; the message holds no key.
    """
    keys: dict[str, bytes] = {}
    for number, pair in enumerate(text.split(","), start=1):
        identifier, colon, encoded = pair.strip().partition(":")
        if not colon or not _KEY_ID.fullmatch(identifier):
            raise ValueError(f"pair {number} must be id:key, the id 1 to 16 of A-Z a-z 0-9 _ -")
        if identifier in keys:
            raise ValueError(f"the key id of pair {number} comes twice")
        keys[identifier] = _decode_key(encoded, number)
    return keys


def _decode_key(encoded: str, number: int) -> bytes:
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"the key of pair {number} must be {KEY_BYTES} random bytes in base64url")
    return key
