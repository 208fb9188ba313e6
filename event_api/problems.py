"""The event API's own problem types, beside those that all APIs share (chassis/http/problems.py)."""

from chassis.http.problems import ProblemType

INVALID_POSITION = ProblemType(
    "invalid-position",
    400,
    "The position cannot be used",
    "The position is not one of ours, was altered, or the secret that signed it has gone.",
    "Send back the id of an event, or next of a page, unchanged; or begin anew with from=beginning.",
)
POSITION_GONE = ProblemType(
    "position-gone",
    410,
    "What came after this position is not all there any more",
    "Since the position was given, records or erasures may have left the topic, or it was replaced by another, or its"
    " brokers were set back to older disks.",
    "Begin anew with from=beginning: every living user comes at least once. Drop those of yours that do not come.",
)
ERASURES_LEFT_OUT = ProblemType(
    "erasures-left-out",
    422,
    "The position is of a stream without all erasures",
    "user=, or type= without muster.user.erased.v1, has kept erasures from whoever is there, so a receipt would say of"
    " them what is not so. A position stays such a one, also where the filter is taken away later.",
    "Begin anew without user=, with type=muster.user.erased.v1 beside the types that you want, or without type=.",
)
SUBSCRIBER_NOT_FOUND = ProblemType(
    "subscriber-not-found",
    404,
    "There is no such subscriber of yours",
    "Nobody has registered that name, or it was not this caller.",
    "Register it with POST /subscribers, with the token that acknowledges.",
)
SUBSCRIBER_TAKEN = ProblemType(
    "subscriber-taken",
    409,
    "Somebody else has registered this subscriber",
    "Another caller has a subscriber of this name.",
    "Choose another name; or have an operator remove the old one, where its caller is gone.",
)
SUBSCRIBER_HAS_GROUP = ProblemType(
    "subscriber-has-group",
    409,
    "This subscriber's group says how far it is",
    "The subscriber has named its consumer group, so a receipt goes by what that has committed, and by nothing else.",
    "Commit offsets in that group; or register the subscriber again without a group, and then acknowledge.",
)
TOO_MANY_SUBSCRIBERS = ProblemType(
    "too-many-subscribers",
    409,
    "There are too many subscribers",
    "1,000 subscribers are registered, or 20 of yours, and each receipt names them all.",
    "Register one name a service, not one a process; DELETE /subscribers/{name} removes those that are gone.",
)
ERASURE_NOT_FOUND = ProblemType(
    "erasure-not-found",
    404,
    "Nobody of this id was erased",
    "The read side knows of no erasure of this id; one that was ordered a moment ago may not have arrived yet.",
    "Check the id. If the command API has answered the erasure with 204, try again in a second.",
)

EVENT_PROBLEMS = (
    INVALID_POSITION,
    POSITION_GONE,
    ERASURES_LEFT_OUT,
    SUBSCRIBER_NOT_FOUND,
    SUBSCRIBER_TAKEN,
    SUBSCRIBER_HAS_GROUP,
    TOO_MANY_SUBSCRIBERS,
    ERASURE_NOT_FOUND,
)
