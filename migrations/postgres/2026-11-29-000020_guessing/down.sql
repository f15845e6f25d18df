ALTER TABLE login_throttle DROP COLUMN IF EXISTS failed_at;
ALTER TABLE login_throttle DROP COLUMN IF EXISTS revision;
