-- A migration may take longer than a call. Every migration begins with these two lines.
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;

-- The counters are calculated by the service and replaced by compare-and-set: the revision of a
-- row changes with the row. `free_from` is when all failures are forgotten. Replicas of older
-- versions have other keys and go on with their own rows, in which alone `blocked_until` and
-- `known_until` are used.
ALTER TABLE login_throttle ADD COLUMN IF NOT EXISTS revision bigint NOT NULL DEFAULT 0;
-- The last failure, from which a wait is counted.
ALTER TABLE login_throttle ADD COLUMN IF NOT EXISTS failed_at bigint NOT NULL DEFAULT 0;
