-- Guess counters: one row for each account, caller address and pair of both, identified by a
-- hash. Times are microseconds since 1970.
CREATE TABLE IF NOT EXISTS login_throttle (
    key_hash      BLOB PRIMARY KEY NOT NULL,
    -- Each failure moves this time forward. A failure is free while it stays in the past.
    free_from     INTEGER NOT NULL,
    -- Attempts are refused until this time.
    blocked_until INTEGER NOT NULL,
    -- Failures of the current day, and the end of that day. Used only for accounts.
    day_failures  INTEGER NOT NULL,
    day_ends_at   INTEGER NOT NULL,
    -- A pair that logged in is known until this time.
    known_until   INTEGER NOT NULL
) STRICT;
