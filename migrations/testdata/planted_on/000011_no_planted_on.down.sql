-- The dates don't come back.
ALTER TABLE branches ADD COLUMN planted_on date;
