"""The agreement of producer and subscribers on a topic of events; the topic's configuration is in outbox/topics.py."""

from typing import Final

#: Far above the largest event of a user: 16 KiB of attributes now and before, at most six bytes a character.
MAX_MESSAGE_BYTES: Final = 1024 * 1024
