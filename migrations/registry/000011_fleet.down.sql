ALTER TABLE tenants DROP COLUMN schema_changed_at;
DROP TABLE fleet_changes;
DROP TABLE fleet_runs;
