-- No access token of the session expires later. NULL in rows of an older version.
ALTER TABLE sessions ADD COLUMN access_tokens_expire_at INTEGER;

-- Kafka refused the time of the event. The events of its user wait until then.
ALTER TABLE outbox_events ADD COLUMN retry_at INTEGER;
CREATE INDEX outbox_events_retry ON outbox_events (user_id) WHERE retry_at IS NOT NULL;
