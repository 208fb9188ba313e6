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
    "Since the position was given, records or erasures may have left the topic, or it was replaced by another.",
    "Begin anew with from=beginning: every living user comes at least once. Drop those of yours that do not come.",
)

EVENT_PROBLEMS = (INVALID_POSITION, POSITION_GONE)
