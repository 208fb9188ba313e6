"""The relay's settings: what it connects to, and its pace, with a reason for each number."""

from __future__ import annotations

from pydantic import Field

from chassis.settings import Logging, RelayPostgres, Settings, Transport
from chassis.tracing.settings import Tracing
from outbox.topics import TopicSettings

_NAME = r"^[A-Za-z0-9._-]{1,100}$"


class RelayAddress(Settings):
    """The address at which a relay serves health and metrics."""

    relay_http_host: str = Field("127.0.0.1", validation_alias="RELAY_HTTP_HOST", examples=["127.0.0.1"])
    relay_http_port: int = Field(8002, ge=1, le=65535, validation_alias="RELAY_HTTP_PORT", examples=[8002])


class RelayName(Settings):
    """The name of a relay."""

    #: Names the transactional ids and the relay's record: relays of different databases on one Kafka differ in it.
    relay_name: str = Field("users", validation_alias="RELAY_NAME", pattern=_NAME, examples=["users"])

    @property
    def publishing_id(self) -> str:
        """The transactional id with which pages of events are published."""
        return f"muster.relay.{self.relay_name}"

    @property
    def maintenance_id(self) -> str:
        """The transactional id of the relay's side jobs, which must not fence it."""
        return f"muster.maintenance.{self.relay_name}"


class RelaySettings(RelayPostgres, TopicSettings, Logging, Transport, Tracing, RelayAddress, RelayName):
    """All settings of the relay process."""

    #: Rows in one page, which is one Kafka transaction: enough that commit and delete cost little for each event.
    relay_page_rows: int = Field(8000, ge=1, le=10_000, validation_alias="RELAY_PAGE_ROWS", examples=[8000])
    #: Bytes of values and headers in one page: at most two pages are in memory, however large the backlog.
    relay_page_bytes: int = Field(
        8 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, validation_alias="RELAY_PAGE_BYTES", examples=[8388608]
    )
    #: Pause between two transactions. After a shorter one the broker may refuse, still writing the last one's markers
    #: (measured: they take 1 to 3 ms). In a longer one events gather, which costs less, and a trickle waits.
    relay_gap_ms: int = Field(2, ge=0, le=1000, validation_alias="RELAY_GAP_MS", examples=[2])
    #: The poll behind NOTIFY, shortly after the last event.
    relay_hot_poll_ms: int = Field(20, ge=1, le=10_000, validation_alias="RELAY_HOT_POLL_MS", examples=[20])
    #: The poll behind NOTIFY while nothing happens: an idle relay costs next to nothing.
    relay_idle_poll_ms: int = Field(1000, ge=1, le=60_000, validation_alias="RELAY_IDLE_POLL_MS", examples=[1000])
    #: An open transaction of a dead relay holds back read_committed readers for at most this long, and a starting relay
    #: waits as long for the open transactions of others (outbox/relay/settlement.py has a deadline above the greatest
    #: value).
    relay_transaction_timeout_ms: int = Field(
        10_000, ge=1000, le=45_000, validation_alias="RELAY_TRANSACTION_TIMEOUT_MS", examples=[10000]
    )
    #: A standby asks for leadership this often: a take-over takes about this long. Its session must not idle for 6 s.
    relay_standby_poll_ms: int = Field(500, ge=10, le=5000, validation_alias="RELAY_STANDBY_POLL_MS", examples=[500])
