ALTER TABLE tenants DROP COLUMN schema_changed_at, DROP COLUMN schema_serves;
DROP TABLE fleet_changes;
DROP TABLE fleet_runs;
