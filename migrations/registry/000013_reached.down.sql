ALTER TABLE fleet_changes DROP COLUMN reached;
