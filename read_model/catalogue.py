"""The projections whose tables this version of the code knows."""

from typing import Final

from read_model import signups, timeline, users
from read_model.schema import ProjectionSchema

SCHEMAS: Final[dict[str, ProjectionSchema]] = {
    schema.name: schema for schema in (users.SCHEMA, timeline.SCHEMA, signups.SCHEMA)
}
