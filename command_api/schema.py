"""All tables of the command database, in one definition that Alembic compares and moves."""

from sqlalchemy import MetaData

from command_api.idempotency import records as idempotency
from command_api.users import tables
from outbox import table as outbox_table


def command_metadata() -> MetaData:
    """Users, outbox and stored answers, each defined where it is used."""
    whole = MetaData()
    for part in (tables.metadata, outbox_table.metadata, idempotency.metadata):
        for table in part.sorted_tables:
            table.to_metadata(whole)
    return whole
