-- A migration may take longer than a call. Every migration begins with these two lines.
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;

-- No access token of the session expires later. NULL in rows of an older version.
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS access_tokens_expire_at timestamptz;

-- Kafka refused the time of the event. The events of its user wait until then.
ALTER TABLE outbox_events ADD COLUMN IF NOT EXISTS retry_at timestamptz;
CREATE INDEX IF NOT EXISTS outbox_events_retry ON outbox_events (user_id)
    WHERE retry_at IS NOT NULL;
