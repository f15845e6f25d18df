DROP INDEX IF EXISTS mail_requests_reserved;
ALTER TABLE mail_requests DROP COLUMN IF EXISTS session_id;
