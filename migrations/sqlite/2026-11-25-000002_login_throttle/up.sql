-- How much was guessed lately: one row for each account, caller address and pair of both,
-- named by a hash. Times are microseconds since 1970.
CREATE TABLE login_throttle (
    key_hash      BLOB PRIMARY KEY NOT NULL,
    -- From when on a failure is free again.
    free_from     INTEGER NOT NULL,
    -- Until when no attempt is let in.
    blocked_until INTEGER NOT NULL,
    -- The failures of a day, and its end. Only accounts have days.
    day_failures  INTEGER NOT NULL,
    day_ends_at   INTEGER NOT NULL,
    -- Until when a pair is known, since it logged in.
    known_until   INTEGER NOT NULL
) STRICT;
