"""The state of the relay, for probes, metrics and the log: one line for a change of state, not for each try."""

from __future__ import annotations

import time
from typing import Final, Literal

import structlog

from chassis.http.health import NotReadyError
from chassis.kafka.refusals import REFUSALS, explain
from chassis.outages import describe_unexpected
from outbox.publishing.probing import leaves_of
from outbox.relay.metrics import HELD, LEADING

log = structlog.get_logger("outbox.relay")

Phase = Literal["starting", "standby", "leading", "held", "failing", "stopped"]

#: A loop that has not beaten for this long hangs and should be restarted. It is longer than whatever may happen between
#: two beats. Settling takes the longest: SETTLE_SECONDS (outbox/relay/settlement.py), and twice REQUEST_SECONDS until
#: its readers have stopped.
LIVE_SECONDS: Final = 150.0


class RelayState:
    """The relay's phase, when its loop last turned, and why it fails if it does."""

    def __init__(self) -> None:
        """Starting, and alive."""
        self.phase: Phase = "starting"
        self.reason = ""
        self._beat = time.monotonic()

    def beat(self) -> None:
        """The loop turns."""
        self._beat = time.monotonic()

    def standing_by(self) -> None:
        """Another relay leads."""
        self._change("standby")

    def leading(self) -> None:
        """This relay publishes."""
        self._change("leading")

    def held(self, row: object) -> None:
        """This relay could publish, but for a row that only a person can resolve."""
        self._change("held", str(row))

    def failing(self, error: BaseException) -> None:
        """Something is away; the relay keeps trying."""
        self._change("failing", _root(error))

    def stopped(self) -> None:
        """The relay has ended as it was told to."""
        self._change("stopped")

    async def check_ready(self) -> None:
        """Ready: this relay publishes, or another one does and this one would take over.

        Raises:
            NotReadyError: it starts, is held up by a damaged row, fails or has stopped.
        """
        if self.phase not in ("leading", "standby"):
            raise NotReadyError(f"{self.phase}: {self.reason}" if self.reason else self.phase)

    async def check_live(self) -> None:
        """Live: the loop turns.

        Raises:
            NotReadyError: it has not for LIVE_SECONDS.
        """
        age = time.monotonic() - self._beat
        if age > LIVE_SECONDS:
            raise NotReadyError(f"the loop has not turned for {age:.0f} s")

    def _change(self, phase: Phase, reason: str = "") -> None:
        self.beat()
        if (phase, reason) == (self.phase, self.reason):
            return
        LEADING.set(phase in ("leading", "held"))
        HELD.set(phase == "held")
        level = log.warning if phase in ("failing", "held") else log.info
        level("relay.state_changed", phase=phase, before=self.phase, **({"reason": reason} if reason else {}))
        self.phase, self.reason = phase, reason


def _root(error: BaseException) -> str:
    """An error's cause in words: a refusal where there is one, else the first that a task group wraps."""
    leaves = list(leaves_of(error))
    # After a refused record, aiokafka says of the others that the transaction is in a wrong state.
    leaf = next((leaf for leaf in leaves if isinstance(leaf, REFUSALS)), leaves[0])
    is_mistake = type(leaf).__module__ == "builtins" and not isinstance(leaf, OSError)
    return describe_unexpected(leaf) if is_mistake else explain(leaf)
