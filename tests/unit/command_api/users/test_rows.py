"""A user's row has every column of the table, and is the same user again when it is read."""

from datetime import UTC, datetime
from uuid import UUID

from command_api.users.rows import COLUMNS, PUBLIC_COLUMNS, public_user, user_row
from command_api.users.tables import users
from events.user_events import PublicUser

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ANN = PublicUser(
    id=UUID("018f3c5a-7b1e-7cc2-9a51-0242ac120002"),
    email="ann@example.com",
    username="Ann",
    email_verified=True,
    display_name=None,
    attributes={},
    is_active=True,
    status="active",
    version=3,
    created_at=NOW,
    updated_at=NOW,
)


def test_every_column_has_a_value() -> None:
    assert sorted(COLUMNS) == sorted(users.columns.keys())
    assert set(PUBLIC_COLUMNS) == PublicUser.model_fields.keys() - {"is_active"}


def test_a_row_is_read_as_the_user_who_was_written() -> None:
    for user in (ANN, ANN.model_copy(update={"attributes": {"n": 1e300}, "is_active": False, "status": "deactivated"})):
        row = dict(zip(COLUMNS, user_row(user, ANN.id, "hash"), strict=True))

        assert public_user(row) == user
