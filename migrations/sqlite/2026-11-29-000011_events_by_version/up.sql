-- The poller asks for the event before each event of a user. Not unique: after a restore from a
-- backup, versions may be given twice.
CREATE INDEX IF NOT EXISTS outbox_events_user ON outbox_events (user_id, user_version);
