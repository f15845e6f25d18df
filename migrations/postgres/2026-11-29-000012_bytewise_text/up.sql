-- A migration may take longer than a call. Every migration begins with these two lines.
-- A database may commit each statement by itself: each one can be run again.
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;

-- Text is compared byte by byte. The order of another collation can change with the server's
-- operating system, and would then break the index. This rebuilds the index on the address.
ALTER TABLE users
    ALTER COLUMN email TYPE text COLLATE "C",
    ALTER COLUMN password_hash TYPE text COLLATE "C";
ALTER TABLE sessions
    ALTER COLUMN device_name TYPE text COLLATE "C",
    ALTER COLUMN revoke_reason TYPE text COLLATE "C";
ALTER TABLE outbox_events
    ALTER COLUMN event_type TYPE text COLLATE "C",
    ALTER COLUMN traceparent TYPE text COLLATE "C",
    ALTER COLUMN parked_reason TYPE text COLLATE "C";
