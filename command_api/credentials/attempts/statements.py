"""The statements that count attempts; `AttemptStore` (store.py) says what each is for.

A row keeps two lists of times: the failures since the last success, by which an attempt is refused, and those that a
success forgave, which count only towards the most of a window. So nobody guesses without an end because the owner logs
in now and then.

Counters are looked up by their values, never by a join: the table is often empty, and the plan of a join that is made
then reads all counters at each attempt of a flood.
"""

from __future__ import annotations

from typing import Final

from command_api.users.rows import PUBLIC_COLUMNS


def _recent(times: str) -> str:
    """The times within the window, newest first, at most `count` of them."""
    return f"""ARRAY(
        SELECT past FROM unnest({times}) past WHERE past > excluded.failed_at[1] - $5::interval
        ORDER BY past DESC LIMIT $7::int
    )"""  # noqa: S608 - of constants


def _without(times: str, at: str) -> str:
    """A list of times without one of them, where it has that."""
    place = f"array_position({times}, {at}::timestamptz)"
    return f"coalesce(({times})[:{place} - 1] || ({times})[{place} + 1:], {times})"


#: `$1` is the time, PostgreSQL's own where it is null; `$2` the counter, `$3` its kind; `$4` to `$7` the limits: how
#: many failures, within how long, the refusals that follow, and the most failures of a window, forgiven or not.
#: `chosen` is one row, with the counter that is charged, where there is room for its hash. A counter that refuses is
#: not written to, so a flood costs reads alone. Where another attempt took the last place since the statement began,
#: there is neither a charge nor a refusal to be seen.
_CHARGE: Final = f"""
charged AS (
    INSERT INTO credential_attempts AS a (counter, kind, failed_at, refused_until, expires_at)
    SELECT counter, kind, ARRAY[now], now + ($6::interval[])[2 - $4::int], now + greatest($5, ($6)[cardinality($6)])
    FROM chosen
    WHERE room AND (
        SELECT known.refused_until > now FROM credential_attempts known WHERE known.counter = chosen.counter
    ) IS NOT TRUE
    ON CONFLICT (counter) DO UPDATE SET (failed_at, forgiven_at, refused_until, expires_at) = (
        SELECT recent, forgiven, excluded.failed_at[1] + ($6)[
            CASE WHEN cardinality(recent) + cardinality(forgiven) >= $7 THEN cardinality($6)
            ELSE least(cardinality(recent) - $4 + 1, cardinality($6)) END
        ], excluded.expires_at
        FROM (
            SELECT excluded.failed_at || {_recent("a.failed_at")} AS recent, {_recent("a.forgiven_at")} AS forgiven
        ) counted
    )
    WHERE a.refused_until IS NULL OR a.refused_until <= excluded.failed_at[1]
    RETURNING failed_at[1] AS at, extract(epoch FROM refused_until - failed_at[1])::float8 AS then_refuses
)
SELECT chosen.*, charged.at, charged.then_refuses, extract(epoch FROM known.refused_until - now)::float8 AS refused,
    extract(epoch FROM now - known.failed_at[1])::float8 AS idle
FROM chosen LEFT JOIN charged ON true
    LEFT JOIN LATERAL (SELECT * FROM credential_attempts a WHERE a.counter = chosen.counter LIMIT 1) known ON true
"""  # noqa: S608 - of constants
_NOW: Final = "coalesce($1::timestamptz, clock_timestamp()) AS now"
#: `$8` says whether there is room for the hash.
CHARGE_COUNTER: Final = (
    f"WITH chosen AS MATERIALIZED (SELECT {_NOW}, $2::bytea AS counter, $3::text AS kind, $8::bool AS room), {_CHARGE}"
)
#: `$8` is the key of an address or a username; `$9` to `$11` are a device token's counter, account and event; `$12` and
#: `$13` say whether there is room for known devices, and for others: only here it turns out which this is. A user whose
#: password's event was not kept has its own id in its place (command_api/users/tables.py).
_CHARGE_AND_LOAD: Final = f"""
WITH chosen AS MATERIALIZED (
    SELECT {_NOW}, CASE WHEN known THEN $9::bytea ELSE $2::bytea END AS counter,
        CASE WHEN known THEN 'device' ELSE $3::text END AS kind,
        CASE WHEN known THEN $12::bool ELSE $13::bool END AS room, id, version, password_hash, password_set_by
    FROM (SELECT) one LEFT JOIN (
        SELECT id, version, password_hash, coalesce(password_set_by, id) AS password_set_by,
            id = $10::uuid AND coalesce(password_set_by, id) = $11::uuid AS known
        FROM users WHERE {{column}} = $8 AND status = 'active'
    ) active ON true
), {_CHARGE}"""  # noqa: S608 - of constants
CHARGE_BY_EMAIL: Final = _CHARGE_AND_LOAD.format(column="email_key")
CHARGE_BY_USERNAME: Final = _CHARGE_AND_LOAD.format(column="username_key")

#: `$1` is the counter, `$2` the time of the attempt: as if that had not been. A refusal goes with it that it brought,
#: or that is left without failures enough. One that was carried over from another counter stays.
TAKE_BACK: Final = f"""
WITH without AS (
    SELECT counter, {_without("failed_at", "$2")} AS failed, {_without("forgiven_at", "$2")} AS forgiven
    FROM (SELECT counter, failed_at, forgiven_at FROM credential_attempts WHERE counter = $1 FOR UPDATE) locked
    WHERE $2 = ANY (failed_at || forgiven_at)
), emptied AS (
    DELETE FROM credential_attempts
    WHERE counter = $1 AND (SELECT cardinality(failed || forgiven) = 0 FROM without)
)
UPDATE credential_attempts a SET failed_at = failed, forgiven_at = forgiven, refused_until = CASE
    WHEN refused_until IN (SELECT $2 + refusal FROM unnest($4::interval[]) refusal)
        OR cardinality(failed) < $3::int AND cardinality(failed || forgiven) < $5::int
    THEN NULL ELSE refused_until END
FROM without WHERE a.counter = $1 AND cardinality(failed || forgiven) > 0
"""  # noqa: S608 - of constants


def _forgive(counter: str, at: str, condition: str = "true") -> str:
    """CTEs that end a counter: an attempt on it succeeded, which was no failure then; the others are forgiven."""
    return f"""
succeeded AS (
    SELECT counter, {_without("failed_at || forgiven_at", at)} AS forgiven
    FROM (SELECT counter, failed_at, forgiven_at FROM credential_attempts
        WHERE counter = {counter} AND {condition} FOR UPDATE) locked
), emptied AS (
    DELETE FROM credential_attempts
    WHERE counter = {counter} AND (SELECT cardinality(forgiven) = 0 FROM succeeded)
), forgiven AS (
    UPDATE credential_attempts a SET failed_at = '{{}}', forgiven_at = s.forgiven, refused_until = NULL
    FROM succeeded s WHERE a.counter = {counter} AND cardinality(s.forgiven) > 0
)"""  # noqa: S608 - of constants


#: `$1` is the counter, `$2` the time of the attempt.
FORGIVE: Final = f"WITH {_forgive('$1', '$2')} SELECT"
#: A password that was checked against what is no longer the user's, or whose user is not active any more, or has
#: another identifier by now, is none: so a guess that was charged to the identifier before comes to nothing.
SUCCEED: Final = f"""
WITH present AS (
    SELECT {", ".join(PUBLIC_COLUMNS)} FROM users
    WHERE id = $1 AND status = 'active' AND coalesce(password_set_by, id) = $2 AND $6 IN (email_key, username_key)
), {_forgive("$3", "$7", "EXISTS (SELECT FROM present)")}, hashed_again AS (
    UPDATE users SET password_hash = $4 WHERE id = $1 AND version = $5 AND $4::text IS NOT NULL
)
SELECT * FROM present
"""  # noqa: S608 - of constants


def _newest_of_both(column: str) -> str:
    return f"""ARRAY(
        SELECT DISTINCT past FROM unnest(a.{column} || excluded.{column}) past ORDER BY past DESC LIMIT $3
    )"""  # noqa: S608 - of constants


#: `$1` and `$2` are the counters of a user's old identifier and of the new one, `$3` how many failures are kept. The
#: old one stays as it is: nobody may learn from it that somebody had that identifier.
CARRY: Final = f"""
INSERT INTO credential_attempts AS a (counter, kind, failed_at, forgiven_at, refused_until, expires_at)
SELECT $2, kind, failed_at, forgiven_at, refused_until, expires_at
FROM (SELECT * FROM credential_attempts WHERE counter = $1 FOR UPDATE) old
ON CONFLICT (counter) DO UPDATE SET
    failed_at = {_newest_of_both("failed_at")},
    forgiven_at = {_newest_of_both("forgiven_at")},
    refused_until = greatest(a.refused_until, excluded.refused_until),
    expires_at = greatest(a.expires_at, excluded.expires_at)
"""  # noqa: S608 - of constants
END: Final = "DELETE FROM credential_attempts WHERE counter = ANY ($1::bytea[])"
