-- The session that asked for a change of the address: it goes on after the change.
ALTER TABLE mail_requests ADD COLUMN session_id BLOB;
-- The address that the account had is reserved for it while the change can be undone.
CREATE INDEX mail_requests_reserved ON mail_requests (email) WHERE purpose = 'revert_email';
