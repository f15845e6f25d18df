-- The counters are calculated by the service and replaced by compare-and-set: the revision of a
-- row changes with the row. `free_from` is when all failures are forgotten. Rows of older
-- versions have other keys; in them alone `blocked_until` and `known_until` are used.
ALTER TABLE login_throttle ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
-- The last failure, from which a wait is counted.
ALTER TABLE login_throttle ADD COLUMN failed_at INTEGER NOT NULL DEFAULT 0;
