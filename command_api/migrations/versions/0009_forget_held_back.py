"""An erasure deletes what is held back for the person by a function of the owner's.

So the command API needs no right to delete events: `muster roles` and `muster migrate` of this version take it. The
function refuses a person who is there, so nobody's events can be deleted without the person.
"""

from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"

# Rows that are damaged or set aside, and what waits behind them: nothing of it was published, and nothing is in flight.
# The first condition of the last DELETE costs one look where nothing is held back, which is nearly always.
_FUNCTION = """
CREATE FUNCTION forget_held_back(person uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM public.users WHERE id = person) THEN
        RAISE insufficient_privilege USING MESSAGE = 'events are deleted with their person, and this one is there';
    END IF;
    WITH named AS (DELETE FROM public.outbox WHERE subject_id = person AND damage IS NOT NULL RETURNING id),
        aside AS (DELETE FROM public.outbox_set_aside WHERE subject_id = person RETURNING id),
        held AS (SELECT min(id) AS first FROM (SELECT id FROM named UNION ALL SELECT id FROM aside) AS named_or_aside)
    DELETE FROM public.outbox
    WHERE (SELECT first FROM held) IS NOT NULL AND id > (SELECT first FROM held)
        AND subject_id = person AND damage IS NULL;
END
$$
"""


def upgrade() -> None:
    """Apply."""
    op.execute(_FUNCTION)
    op.execute("REVOKE ALL ON FUNCTION forget_held_back(uuid) FROM PUBLIC")


def downgrade() -> None:
    """Undo; `muster roles command` of the version before gives the command API its rights again."""
    op.execute("DROP FUNCTION forget_held_back(uuid)")
