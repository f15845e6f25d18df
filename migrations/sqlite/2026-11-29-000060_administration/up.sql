-- A suspension by an administrator; all NULL without one. It is in force until `suspended_until`,
-- or for ever if that is NULL.
ALTER TABLE users ADD COLUMN suspended_at INTEGER;
ALTER TABLE users ADD COLUMN suspended_until INTEGER;
ALTER TABLE users ADD COLUMN suspension_reason TEXT;
-- Separated by spaces, and how often they were set.
ALTER TABLE users ADD COLUMN roles TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN roles_version INTEGER NOT NULL DEFAULT 0;
-- The ids of deleted accounts. An import must not give one of them to another account: the
-- versions of its events would begin again.
CREATE TABLE deleted_users (
    id BLOB PRIMARY KEY NOT NULL
) STRICT;
