-- Since when a branch has been there.
ALTER TABLE branches ADD COLUMN planted_on date;
