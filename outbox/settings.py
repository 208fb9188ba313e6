"""The relay's settings: what it connects to, and its pace, each number with its reason."""

from __future__ import annotations

from pydantic import Field

from chassis.settings import CommandPostgres, Logging, Settings
from outbox.topics import TopicSettings

_NAME = r"^[A-Za-z0-9._-]{1,100}$"


class RelayAddress(Settings):
    """Where a relay serves health and metrics."""

    relay_http_host: str = Field("127.0.0.1", validation_alias="RELAY_HTTP_HOST", examples=["127.0.0.1"])
    relay_http_port: int = Field(8002, ge=1, le=65535, validation_alias="RELAY_HTTP_PORT", examples=[8002])


class RelaySettings(CommandPostgres, TopicSettings, Logging, RelayAddress):
    """Everything the relay process is told."""

    #: Names the transactional id and the relay's record: installations that share a Kafka differ in it.
    relay_name: str = Field("users", validation_alias="RELAY_NAME", pattern=_NAME, examples=["users"])

    #: Rows in one page, which is one Kafka transaction: large enough that commit and delete cost little per event.
    relay_page_rows: int = Field(8000, ge=1, le=10_000, validation_alias="RELAY_PAGE_ROWS", examples=[8000])
    #: Bytes of values and headers in one page: two pages are in memory at most, whatever the size of the backlog.
    relay_page_bytes: int = Field(
        8 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, validation_alias="RELAY_PAGE_BYTES", examples=[8388608]
    )
    #: Between two transactions: sooner the broker is still writing the last one's markers, and refuses (measured: they
    #: take 1 to 3 ms); longer, and events of a trickle wait for nothing.
    relay_gap_ms: int = Field(2, ge=0, le=1000, validation_alias="RELAY_GAP_MS", examples=[2])
    #: The poll behind NOTIFY, shortly after the last event.
    relay_hot_poll_ms: int = Field(20, ge=1, le=10_000, validation_alias="RELAY_HOT_POLL_MS", examples=[20])
    #: The poll behind NOTIFY when nothing happens: an idle relay costs next to nothing.
    relay_idle_poll_ms: int = Field(1000, ge=1, le=60_000, validation_alias="RELAY_IDLE_POLL_MS", examples=[1000])
    #: An open transaction of a dead relay holds back read_committed readers at most this long; a relay that starts
    #: waits as long for others' (outbox/relay/settlement.py has a deadline above the greatest value).
    relay_transaction_timeout_ms: int = Field(
        10_000, ge=1000, le=45_000, validation_alias="RELAY_TRANSACTION_TIMEOUT_MS", examples=[10000]
    )
    #: How often a relay that does not lead asks whether it may: take-over takes about this long.
    relay_standby_poll_ms: int = Field(500, ge=10, le=60_000, validation_alias="RELAY_STANDBY_POLL_MS", examples=[500])
