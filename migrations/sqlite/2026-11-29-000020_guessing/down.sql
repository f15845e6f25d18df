ALTER TABLE login_throttle DROP COLUMN failed_at;
ALTER TABLE login_throttle DROP COLUMN revision;
