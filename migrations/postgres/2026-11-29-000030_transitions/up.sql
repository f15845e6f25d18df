-- A migration may take longer than a call. Every migration begins with these two lines.
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;

-- How long replicas of a release write what the release before can read. One row for each such
-- release, made by the first replica of it that starts. NULL: the database was new.
CREATE TABLE IF NOT EXISTS transitions (
    name    text COLLATE "C" PRIMARY KEY,
    ends_at timestamptz
);
