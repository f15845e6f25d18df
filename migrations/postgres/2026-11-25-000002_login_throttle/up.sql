-- A migration may take longer than a call. Every migration begins with these two lines.
-- A database may commit each statement by itself: each one can be run again.
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;

-- Guess counters: one row for each account, caller address and pair of both, identified by a
-- hash. Times are microseconds since 1970, because the statement that counts calculates with
-- them, on Postgres and on SQLite.
--
-- Updates change no indexed column and find free space on the page: they stay HOT.
CREATE TABLE IF NOT EXISTS login_throttle (
    key_hash      bytea PRIMARY KEY,
    -- Each failure moves this time forward. A failure is free while it stays in the past.
    free_from     bigint NOT NULL,
    -- Attempts are refused until this time.
    blocked_until bigint NOT NULL,
    -- Failures of the current day, and the end of that day. Used only for accounts.
    day_failures  bigint NOT NULL,
    day_ends_at   bigint NOT NULL,
    -- A pair that logged in is known until this time.
    known_until   bigint NOT NULL
) WITH (fillfactor = 80);
