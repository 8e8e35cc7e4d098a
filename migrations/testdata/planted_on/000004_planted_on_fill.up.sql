-- backfill: branches.planted_on, by the day of created_at
UPDATE branches SET planted_on = (created_at AT TIME ZONE 'UTC')::date WHERE planted_on IS NULL;
