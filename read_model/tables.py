"""The tables of the query database that no generation owns: those of feeds, of parked records, and of the console.

Receipts of erasures need two beside them: subscribers, and looks at the log. Alembic migrates these
(projectors/migrations). read_model/generations.py creates a generation's own tables beside the serving ones, so a
rebuild changes nothing that is being read.
"""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Identity,
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
    """Rows that belong to a generation are deleted with it."""
    return ForeignKeyConstraint(
        ["projection", "generation"],
        ["generations.projection", "generations.generation"],
        name=name,
        ondelete="CASCADE",
    )


#: One row for each generation of a projection. Queries read the `serving` one, of which a projection has at most one.
#: The row of a retired generation stays, so that its number is never used again. A generation with a `refusal` is fed
#: no more.
generations = Table(
    "generations",
    metadata,
    Column("projection", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("shape", SmallInteger, nullable=False, comment="version of the projection's tables and documents"),
    Column("status", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("changed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("refusal", Text, comment="why it must not be fed any more"),
    PrimaryKeyConstraint("projection", "generation", name="generations_pkey"),
    CheckConstraint("status IN ('building', 'serving', 'standby', 'retired')", name="generations_status_check"),
    CheckConstraint("generation > 0", name="generations_generation_check"),
    Index("generations_serving_key", "projection", unique=True, postgresql_where=text("status = 'serving'")),
)

#: The next position of each partition, moved in the transaction that writes the rows. Everything that was on the
#: partition at `seen_until` has been applied; that is a time of this database's server, and never one to come.
#: `topic_id`, `record_offset` and `record_id` say which log the position belongs to, and the last record that was read;
#: they are null in a checkpoint from before they were kept. So does `newest`, where `newest_position` is the position:
#: a version before moves that alone. Before `repaired_until`, records of repaired users are left out.
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
    Column("topic_id", Uuid),
    Column("record_offset", BigInteger),
    Column("record_id", Uuid, comment="its ce_id"),
    Column("repaired_until", BigInteger, comment="the greatest position of the partition's repaired users"),
    Column("newest", BigInteger, comment="when the newest record was appended, in milliseconds since 1970"),
    Column("newest_position", BigInteger, comment="before which it is the newest"),
    PrimaryKeyConstraint("projection", "generation", "topic", "partition", name="checkpoints_pkey"),
    _of_generation("checkpoints_generation_fkey"),
)

#: Records that a generation could not apply, byte for byte, and later ones of the same user, which wait behind them.
#: `error` is null for those that only wait. `user_id` is null where the record is suspicious: nothing waits behind it,
#: and it names `suspect_id`, if anybody. The value is in `parked_values`; a version before kept it in `value`.
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
    Column("suspect_id", Uuid, comment="whom a suspicious record names; nobody waits behind it"),
    Column("value_digest", LargeBinary),
    PrimaryKeyConstraint("projection", "generation", "topic", "partition", "record_offset", name="parked_records_pkey"),
    _of_generation("parked_records_generation_fkey"),
    Index("parked_records_user_id_idx", "projection", "generation", "user_id"),
    Index("parked_records_value_digest_idx", "value_digest"),
)

#: The values of parked records, each kept once for all generations that parked it (read_model/parked_values.py).
parked_values = Table(
    "parked_values",
    metadata,
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the value"),
    Column("value", LargeBinary, nullable=False),
    PrimaryKeyConstraint("digest", name="parked_values_pkey"),
)

#: The greatest version of each user that was parked and is not suspicious, also once it is discarded: it was read, and
#: the version that follows it is expected.
parked_versions = Table(
    "parked_versions",
    metadata,
    Column("projection", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("version", BigInteger, nullable=False),
    PrimaryKeyConstraint("projection", "generation", "user_id", name="parked_versions_pkey"),
    _of_generation("parked_versions_generation_fkey"),
)

#: Records beyond those that are parked: only counted. Their bytes are on the topic.
counted_records = Table(
    "counted_records",
    metadata,
    Column("projection", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("first_offset", BigInteger, nullable=False),
    Column("last_offset", BigInteger, nullable=False),
    PrimaryKeyConstraint("projection", "generation", "topic", "partition", name="counted_records_pkey"),
    _of_generation("counted_records_generation_fkey"),
)

#: Users who were repaired: on that topic their records before the position do not count, for any generation.
repaired_users = Table(
    "repaired_users",
    metadata,
    Column("topic_id", Uuid, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("position", BigInteger, nullable=False, comment="the user's records before it do not count"),
    Column("repaired_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("topic_id", "partition", "user_id", name="repaired_users_pkey"),
)

#: Sign-ins of the console, each found by the SHA-256 of what its cookie or link has; the token in it is sealed.
console_sessions = Table(
    "console_sessions",
    metadata,
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the cookie's id"),
    Column("sealed", LargeBinary, nullable=False),
    Column("revealed", ARRAY(Uuid), nullable=False, server_default=text("'{}'"), comment="users shown in clear"),
    Column("renewing_until", DateTime(timezone=True), comment="until then nobody else renews the token"),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("digest", name="console_sessions_pkey"),
    Index("console_sessions_expires_at_idx", "expires_at"),
)

#: Links to sign in with, each until it is spent; and what came back from an identity provider, so that it works once.
console_links = Table(
    "console_links",
    metadata,
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of what the link has in it"),
    Column("sealed", LargeBinary, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("digest", name="console_links_pkey"),
    Index("console_links_expires_at_idx", "expires_at"),
)

#: The deeds of operators in the console. A row has ids alone, no personal data.
console_operations = Table(
    "console_operations",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("actor", Text, comment="null where access was off"),
    Column("deed", Text, nullable=False),
    Column("targets", ARRAY(Text), nullable=False, comment="ids of users, or what else it was done to"),
    Column("outcome", Text, comment="null where it is under way, or where nobody knows"),
    PrimaryKeyConstraint("id", name="console_operations_pkey"),
)

#: The subscribers to the events. `consumer_group` is followed where it is named. A subscriber without one acknowledges
#: `offsets` itself: the next of each partition of one log.
subscribers = Table(
    "subscribers",
    metadata,
    Column("name", Text, nullable=False),
    Column("owner", LargeBinary, nullable=False, comment="SHA-256 of the caller who registered it"),
    Column("consumer_group", Text),
    Column("actor", Text, comment="who registered it, as events name actors"),
    Column("registered_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("topic_id", Uuid),
    Column("offsets", ARRAY(BigInteger)),
    Column("acknowledged_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("name", name="subscribers_pkey"),
)

#: The time, for each erasure, by which its log forgets the person, as it was said first, and what a look after it
#: found. Once the erasure is on another log, all of it is said anew.
erasure_looks = Table(
    "erasure_looks",
    metadata,
    Column("user_id", Uuid, nullable=False),
    Column("expected_by", DateTime(timezone=True), nullable=False),
    Column("topic_id", Uuid, comment="which log is looked at"),
    Column("looked_at", DateTime(timezone=True)),
    Column("forgotten", Boolean, comment="null before the first look"),
    PrimaryKeyConstraint("user_id", name="erasure_looks_pkey"),
    Index("erasure_looks_due_idx", "expected_by", postgresql_where=text("forgotten IS NOT TRUE")),
)
