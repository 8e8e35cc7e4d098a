-- backfill: branches.id
-- compatible with: 3
UPDATE branches SET planted_on = (created_at AT TIME ZONE 'UTC')::date WHERE planted_on IS NULL /* batch */;
