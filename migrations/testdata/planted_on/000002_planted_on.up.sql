-- compatible with: 1
-- The date on which the branch was founded.
ALTER TABLE branches ADD COLUMN planted_on date;
