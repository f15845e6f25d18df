DROP INDEX outbox_events_retry;
ALTER TABLE outbox_events DROP COLUMN retry_at;
ALTER TABLE sessions DROP COLUMN access_tokens_expire_at;
