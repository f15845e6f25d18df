DROP TABLE deleted_users;
ALTER TABLE users DROP COLUMN roles_version;
ALTER TABLE users DROP COLUMN roles;
ALTER TABLE users DROP COLUMN suspension_reason;
ALTER TABLE users DROP COLUMN suspended_until;
ALTER TABLE users DROP COLUMN suspended_at;
