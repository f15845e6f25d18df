DROP TABLE outbox_lease;
DROP TABLE outbox_events;
DROP TABLE sessions;
DROP TABLE users;
