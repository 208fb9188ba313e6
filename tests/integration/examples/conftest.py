"""What the tests of the examples share: a topic, and both APIs to ask."""

from tests.integration.event_api.conftest import publisher, url
from tests.integration.query_api.conftest import api, app, read_side, settings

__all__ = ["api", "app", "publisher", "read_side", "settings", "url"]
