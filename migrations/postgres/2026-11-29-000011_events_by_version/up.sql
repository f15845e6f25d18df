-- A migration may take longer than a call. Every migration begins with these two lines.
-- A database may commit each statement by itself: each one can be run again.
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;

-- The poller asks for the event before each event of a user. Not unique: after a restore from a
-- backup, versions may be given twice.
CREATE INDEX IF NOT EXISTS outbox_events_user ON outbox_events (user_id, user_version);
