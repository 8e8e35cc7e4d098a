ALTER TABLE orphans DROP COLUMN half_dropped, DROP COLUMN last_seen_at;
