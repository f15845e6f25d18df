-- A migration may take longer than a call. Every migration begins with these two lines.
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;

-- When a mail last proved the address; NULL: never.
ALTER TABLE users ADD COLUMN IF NOT EXISTS email_verified_at timestamptz;
-- The language of mails to the user.
ALTER TABLE users ADD COLUMN IF NOT EXISTS locale text COLLATE "C";

-- Mails that were asked for. A used or void one is deleted. The mailer claims a mail until
-- `claim_until`, and each claim makes a token that lives on after that.
CREATE TABLE IF NOT EXISTS mail_requests (
    id           uuid PRIMARY KEY,
    -- NULL for an address without an account: asking for its mail costs the same.
    user_id      uuid REFERENCES users (id) ON DELETE CASCADE,
    purpose      text COLLATE "C" NOT NULL,
    email        text COLLATE "C" NOT NULL,
    locale       text COLLATE "C",
    requested_at timestamptz NOT NULL,
    claim_until  timestamptz NOT NULL,
    -- The password at that time, if the request ends with it.
    password_changed_at timestamptz,
    claims       bigint NOT NULL,
    -- The last moment to claim it, or the end of its last token if that is later.
    expires_at   timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX IF NOT EXISTS mail_requests_user_id ON mail_requests (user_id);

-- The tokens of claimed mails, as SHA-256.
CREATE TABLE IF NOT EXISTS mail_tokens (
    token_hash bytea PRIMARY KEY,
    request_id uuid NOT NULL REFERENCES mail_requests (id) ON DELETE CASCADE,
    expires_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS mail_tokens_request_id ON mail_tokens (request_id);
