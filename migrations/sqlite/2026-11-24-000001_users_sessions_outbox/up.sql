-- The same tables as on Postgres. Ids are 16 bytes, times are microseconds since 1970.

-- One row for each account.
CREATE TABLE IF NOT EXISTS users (
    id                  BLOB PRIMARY KEY NOT NULL,
    email               TEXT NOT NULL UNIQUE,
    password_hash       TEXT NOT NULL,
    event_version       INTEGER NOT NULL,
    created_at          INTEGER NOT NULL,
    password_changed_at INTEGER NOT NULL
) STRICT;

-- One row for each login of a device. It holds only hashes of tokens.
CREATE TABLE IF NOT EXISTS sessions (
    id                  BLOB PRIMARY KEY NOT NULL,
    user_id             BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    handle_hash         BLOB NOT NULL UNIQUE,
    token_hash          BLOB NOT NULL,
    previous_token_hash BLOB,
    sealed_successor    BLOB,
    generation          INTEGER NOT NULL,
    device_name         TEXT,
    created_at          INTEGER NOT NULL,
    rotated_at          INTEGER NOT NULL,
    expires_at          INTEGER NOT NULL,
    ends_at             INTEGER NOT NULL,
    revoked_at          INTEGER,
    revoke_reason       TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS sessions_user_id ON sessions (user_id);

-- Events that Kafka has not acknowledged yet. Rows outlive their user, so there is no foreign key.
CREATE TABLE IF NOT EXISTS outbox_events (
    id            INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    event_id      BLOB NOT NULL,
    user_id       BLOB NOT NULL,
    user_version  INTEGER NOT NULL,
    event_type    TEXT NOT NULL,
    occurred_at   INTEGER NOT NULL,
    traceparent   TEXT,
    payload       BLOB NOT NULL,
    parked_at     INTEGER,
    parked_reason TEXT
) STRICT;
-- A parked event blocks the later events of its user.
CREATE INDEX IF NOT EXISTS outbox_events_parked ON outbox_events (user_id) WHERE parked_at IS NOT NULL;

-- The replica that publishes. One row.
CREATE TABLE IF NOT EXISTS outbox_lease (
    id         INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    owner      BLOB NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
INSERT INTO outbox_lease (id, owner, expires_at)
VALUES (1, x'00000000000000000000000000000000', 0)
ON CONFLICT (id) DO NOTHING;
