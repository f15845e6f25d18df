DROP TABLE mail_tokens;
DROP TABLE mail_requests;
ALTER TABLE users DROP COLUMN IF EXISTS locale;
ALTER TABLE users DROP COLUMN IF EXISTS email_verified_at;
