-- A migration may take longer than a call. Every migration begins with these two lines.
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;

-- The session that asked for a change of the address: it goes on after the change.
ALTER TABLE mail_requests ADD COLUMN IF NOT EXISTS session_id uuid;
-- The address that the account had is reserved for it while the change can be undone.
CREATE INDEX IF NOT EXISTS mail_requests_reserved ON mail_requests (email)
    WHERE purpose = 'revert_email';
