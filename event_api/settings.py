"""The settings of one event API process."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from chassis.access.settings import LimitedReads
from chassis.settings import EventsPostgres, Kafka, SecretList, Topics, secrets_of
from event_api.receipts.signing import ReceiptKeys


def _signs(value: SecretStr) -> SecretStr:
    ReceiptKeys(value.get_secret_value())
    return value


class EventApiSettings(Kafka, Topics, EventsPostgres, LimitedReads):
    """The event API's variables."""

    event_api_host: str = Field("127.0.0.1", validation_alias="EVENT_API_HOST", min_length=1, examples=["127.0.0.1"])
    event_api_port: int = Field(8005, ge=1, le=65535, validation_alias="EVENT_API_PORT", examples=[8005])
    #: Health with its reasons, and metrics, without a token: for the inside alone.
    event_api_ops_host: str = Field("127.0.0.1", validation_alias="EVENT_API_OPS_HOST", examples=["127.0.0.1"])
    event_api_ops_port: int = Field(8012, ge=1, le=65535, validation_alias="EVENT_API_OPS_PORT", examples=[8012])
    #: Shared by all processes: a position of one is read by every other.
    event_api_secrets: SecretList = Field(
        validation_alias="EVENT_API_SECRETS", examples=["32-random-characters-or-many-more"]
    )
    #: A client may leave so much unread of what was written for it: a thousand thin events and more.
    slow_client_bytes: int = Field(
        1024 * 1024, ge=16 * 1024, le=1024 * 1024 * 1024, validation_alias="SLOW_CLIENT_BYTES", examples=[1024 * 1024]
    )

    #: Shared by all processes. The first key signs; those behind it have signed, and are published for older receipts.
    receipts_key: Annotated[SecretStr, AfterValidator(_signs)] = Field(
        validation_alias="RECEIPTS_KEY",
        examples=["'-----BEGIN PRIVATE KEY-----…', or RECEIPTS_KEY_FILE=/etc/muster/receipts.pem"],
    )

    @cached_property
    def receipt_keys(self) -> ReceiptKeys:
        """The keys of receipts."""
        return ReceiptKeys(self.receipts_key.get_secret_value())

    @property
    def position_secrets(self) -> list[str]:
        """The secrets of positions: the first signs, all verify."""
        return secrets_of(self.event_api_secrets)

    @property
    def all_kept(self) -> timedelta:
        """The time for which the topic keeps every record, superseded ones and tombstones too."""
        return timedelta(milliseconds=min(self.topic_min_compaction_lag_ms, self.topic_delete_retention_ms))
