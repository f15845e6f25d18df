-- When a mail last proved the address; NULL: never.
ALTER TABLE users ADD COLUMN email_verified_at INTEGER;
-- The language of mails to the user.
ALTER TABLE users ADD COLUMN locale TEXT;

-- Mails that were asked for. A used or void one is deleted. The mailer claims a mail until
-- `claim_until`, and each claim makes a token that lives on after that.
CREATE TABLE mail_requests (
    id           BLOB PRIMARY KEY NOT NULL,
    -- NULL for an address without an account: asking for its mail costs the same.
    user_id      BLOB REFERENCES users (id) ON DELETE CASCADE,
    purpose      TEXT NOT NULL,
    email        TEXT NOT NULL,
    locale       TEXT,
    requested_at INTEGER NOT NULL,
    claim_until  INTEGER NOT NULL,
    -- The password at that time, if the request ends with it.
    password_changed_at INTEGER,
    claims       INTEGER NOT NULL,
    -- The last moment to claim it, or the end of its last token if that is later.
    expires_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX mail_requests_user_id ON mail_requests (user_id);

-- The tokens of claimed mails, as SHA-256.
CREATE TABLE mail_tokens (
    token_hash BLOB PRIMARY KEY NOT NULL,
    request_id BLOB NOT NULL REFERENCES mail_requests (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX mail_tokens_request_id ON mail_tokens (request_id);
