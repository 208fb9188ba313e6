"""The tables of the query database that no generation owns: generations, checkpoints, parked records.

Alembic moves these (projectors/migrations). A generation's own tables are created beside the serving ones by
read_model/generations.py, so that a rebuild changes nothing that is being read.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)

metadata = MetaData()


def _of_generation(name: str) -> ForeignKeyConstraint:
    """What belongs to a generation goes with it."""
    return ForeignKeyConstraint(
        ["projection", "generation"],
        ["generations.projection", "generations.generation"],
        name=name,
        ondelete="CASCADE",
    )


#: One row a generation of a projection. `serving` is the one that queries read; at most one per projection. The row of
#: a retired one stays, so that its number is never given again.
generations = Table(
    "generations",
    metadata,
    Column("projection", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("shape", SmallInteger, nullable=False, comment="version of the projection's tables and documents"),
    Column("status", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("changed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("projection", "generation", name="generations_pkey"),
    CheckConstraint("status IN ('building', 'serving', 'standby', 'retired')", name="generations_status_check"),
    CheckConstraint("generation > 0", name="generations_generation_check"),
    Index("generations_serving_key", "projection", unique=True, postgresql_where=text("status = 'serving'")),
)

#: The next position of each partition, moved in the transaction that writes the rows. `seen_until`: everything that was
#: on this partition at that time has been applied.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("projection", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("seen_until", DateTime(timezone=True)),
    Column("moved_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("projection", "generation", "topic", "partition", name="checkpoints_pkey"),
    _of_generation("checkpoints_generation_fkey"),
)

#: Records that a generation could not apply, byte for byte, and the same user's later ones, which wait behind. `error`
#: is null for those that only wait. `user_id` is null where the record has no usable key: nothing waits behind it.
parked_records = Table(
    "parked_records",
    metadata,
    Column("projection", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("record_offset", BigInteger, nullable=False),
    Column("user_id", Uuid),
    Column("error", Text),
    Column("key", LargeBinary),
    Column("headers", LargeBinary, nullable=False, comment="JSON: [[name, base64 of the value or null], …]"),
    Column("value", LargeBinary),
    Column("recorded_at", DateTime(timezone=True), nullable=False, comment="the record's own timestamp"),
    Column("parked_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("projection", "generation", "topic", "partition", "record_offset", name="parked_records_pkey"),
    _of_generation("parked_records_generation_fkey"),
    Index("parked_records_user_id_idx", "projection", "generation", "user_id"),
)
