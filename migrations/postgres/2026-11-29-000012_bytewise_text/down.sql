ALTER TABLE users
    ALTER COLUMN email TYPE text COLLATE "default",
    ALTER COLUMN password_hash TYPE text COLLATE "default";
ALTER TABLE sessions
    ALTER COLUMN device_name TYPE text COLLATE "default",
    ALTER COLUMN revoke_reason TYPE text COLLATE "default";
ALTER TABLE outbox_events
    ALTER COLUMN event_type TYPE text COLLATE "default",
    ALTER COLUMN traceparent TYPE text COLLATE "default",
    ALTER COLUMN parked_reason TYPE text COLLATE "default";
