"""All that Muster publishes: events, their CloudEvents envelope, a catalogue for each kind of subject, and the topics.

Only `user_events`, and `decoding`, which reads them for subscribers, know what a user is.

The same source is the subscribers' kit, `muster_events`: it depends on pydantic and the standard library alone, and its
modules import each other relatively, so that they work under both names. What subscribers use is named here; the rest
may change with any release.
"""

from .copying import Batch, Consumer, PositionGoneError, bootstrap
from .decoding import Decoded, Erased, Unknown, User, UserEvent, decode
from .verification import Difference, RangeTooLargeError, StaleAnswerError, Verification, verify_copy

__all__ = [
    "Batch",
    "Consumer",
    "Decoded",
    "Difference",
    "Erased",
    "PositionGoneError",
    "RangeTooLargeError",
    "StaleAnswerError",
    "Unknown",
    "User",
    "UserEvent",
    "Verification",
    "bootstrap",
    "decode",
    "verify_copy",
]
