-- A migration may take longer than a call. Every migration begins with these two lines.
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;

-- Access tokens that gateways must refuse although they have not expired: those of one session, or
-- those of a user that were issued before a time. They outlive the session and the user.
CREATE TABLE IF NOT EXISTS revocations (
    id            uuid PRIMARY KEY,
    session_id    uuid,
    user_id       uuid,
    issued_before timestamptz,
    -- When the last of the tokens expires.
    until         timestamptz NOT NULL,
    -- By the clock that all replicas read.
    recorded_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS revocations_recorded_at ON revocations (recorded_at);
CREATE INDEX IF NOT EXISTS revocations_until ON revocations (until);
