"""The projections that this version of the code feeds."""

from __future__ import annotations

from typing import Final

from projectors.projections import signups, timeline, users
from projectors.projections.projection import Projection

PROJECTIONS: Final[dict[str, Projection]] = {
    projection.name: projection for projection in (users.PROJECTION, timeline.PROJECTION, signups.PROJECTION)
}
