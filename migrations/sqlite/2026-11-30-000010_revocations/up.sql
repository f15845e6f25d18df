-- Access tokens that gateways must refuse although they have not expired: those of one session, or
-- those of a user that were issued before a time. They outlive the session and the user.
CREATE TABLE revocations (
    id            BLOB PRIMARY KEY NOT NULL,
    session_id    BLOB,
    user_id       BLOB,
    issued_before INTEGER,
    -- When the last of the tokens expires.
    until         INTEGER NOT NULL,
    -- By the clock that all replicas read.
    recorded_at   INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;
CREATE INDEX revocations_recorded_at ON revocations (recorded_at);
CREATE INDEX revocations_until ON revocations (until);
