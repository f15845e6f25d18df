-- The time limits of a call are not those of a migration. Every migration begins with this.
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;

-- How much was guessed lately: one row for each account, caller address and pair of both,
-- named by a hash. Times are microseconds since 1970, since the one statement that counts
-- calculates with them, here as on SQLite.
--
-- No index on a column that changes, and room on the page: the update stays HOT.
CREATE TABLE login_throttle (
    key_hash      bytea PRIMARY KEY,
    -- From when on a failure is free again.
    free_from     bigint NOT NULL,
    -- Until when no attempt is let in.
    blocked_until bigint NOT NULL,
    -- The failures of a day, and its end. Only accounts have days.
    day_failures  bigint NOT NULL,
    day_ends_at   bigint NOT NULL,
    -- Until when a pair is known, since it logged in.
    known_until   bigint NOT NULL
) WITH (fillfactor = 80);
