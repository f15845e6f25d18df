-- A migration may take longer than a call. Every migration begins with these two lines.
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;

-- A suspension by an administrator; all NULL without one. It is in force until `suspended_until`,
-- or for ever if that is NULL.
ALTER TABLE users ADD COLUMN IF NOT EXISTS suspended_at timestamptz;
ALTER TABLE users ADD COLUMN IF NOT EXISTS suspended_until timestamptz;
ALTER TABLE users ADD COLUMN IF NOT EXISTS suspension_reason text COLLATE "C";
-- Separated by spaces, and how often they were set.
ALTER TABLE users ADD COLUMN IF NOT EXISTS roles text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN IF NOT EXISTS roles_version bigint NOT NULL DEFAULT 0;
-- The ids of deleted accounts. An import must not give one of them to another account: the
-- versions of its events would begin again.
CREATE TABLE IF NOT EXISTS deleted_users (
    id uuid PRIMARY KEY
);
