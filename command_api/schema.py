"""All tables of the command database, in the one definition that Alembic compares the database with."""

from sqlalchemy import MetaData

from command_api.credentials.tables import credential_attempts
from command_api.idempotency.records import records_metadata
from outbox.published_topics import published_topics


def command_metadata() -> MetaData:
    """Users with their credentials, the outbox with its topics, and stored answers, each defined where it is used."""
    whole = MetaData()
    for part in (credential_attempts.metadata, published_topics.metadata, records_metadata):
        for table in part.tables.values():
            table.to_metadata(whole)
    return whole
