"""Users as the subject of projections."""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from events.user_events import USER_EVENTS, UserSnapshot
from projectors.decoding.subject import Subject

USERS: Final = Subject(USER_EVENTS, topic=attrgetter("events_topic"), snapshot=UserSnapshot.type())
