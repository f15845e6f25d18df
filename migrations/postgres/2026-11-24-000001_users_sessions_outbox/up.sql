-- A migration may take longer than a call. Every migration begins with these two lines.
-- A database may commit each statement by itself: each one can be run again.
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;

-- One row for each account.
CREATE TABLE IF NOT EXISTS users (
    id                  uuid PRIMARY KEY,
    email               text COLLATE "C" NOT NULL UNIQUE,
    password_hash       text COLLATE "C" NOT NULL,
    -- The version of the user's last event. Raising it locks the row, which orders the events.
    event_version       bigint NOT NULL,
    created_at          timestamptz NOT NULL,
    password_changed_at timestamptz NOT NULL
) WITH (fillfactor = 90);

-- One row for each login of a device. It holds only hashes of tokens.
--
-- Refresh changes no indexed column and finds free space on the page: its update stays HOT.
CREATE TABLE IF NOT EXISTS sessions (
    id                  uuid PRIMARY KEY,
    user_id             uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    handle_hash         bytea NOT NULL UNIQUE,
    token_hash          bytea NOT NULL,
    previous_token_hash bytea,
    sealed_successor    bytea,
    generation          bigint NOT NULL,
    device_name         text COLLATE "C",
    created_at          timestamptz NOT NULL,
    rotated_at          timestamptz NOT NULL,
    expires_at          timestamptz NOT NULL,
    ends_at             timestamptz NOT NULL,
    revoked_at          timestamptz,
    revoke_reason       text COLLATE "C"
) WITH (fillfactor = 80);
CREATE INDEX IF NOT EXISTS sessions_user_id ON sessions (user_id);

-- Events that Kafka has not acknowledged yet. Rows outlive their user, so there is no foreign key.
CREATE TABLE IF NOT EXISTS outbox_events (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id      uuid NOT NULL,
    user_id       uuid NOT NULL,
    user_version  bigint NOT NULL,
    event_type    text COLLATE "C" NOT NULL,
    occurred_at   timestamptz NOT NULL,
    traceparent   text COLLATE "C",
    payload       bytea NOT NULL,
    parked_at     timestamptz,
    parked_reason text COLLATE "C"
);
-- A parked event blocks the later events of its user.
CREATE INDEX IF NOT EXISTS outbox_events_parked ON outbox_events (user_id) WHERE parked_at IS NOT NULL;

-- The replica that publishes. One row.
CREATE TABLE IF NOT EXISTS outbox_lease (
    id         integer PRIMARY KEY CHECK (id = 1),
    owner      uuid NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 10);
INSERT INTO outbox_lease (id, owner, expires_at)
VALUES (1, '00000000-0000-0000-0000-000000000000', '1970-01-01T00:00:00Z')
ON CONFLICT (id) DO NOTHING;
