ALTER TABLE outbox_events DROP COLUMN IF EXISTS retry_at;
ALTER TABLE sessions DROP COLUMN IF EXISTS access_tokens_expire_at;
