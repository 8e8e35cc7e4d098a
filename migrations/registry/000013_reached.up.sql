-- The version at which a run has left the church; NULL until that is known. If it isn't from_version, the run has changed it.
ALTER TABLE fleet_changes ADD COLUMN reached integer;
