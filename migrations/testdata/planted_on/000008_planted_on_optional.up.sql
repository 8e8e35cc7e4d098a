-- compatible with: 7
-- Lets the next release omit the column.
ALTER TABLE branches ALTER COLUMN planted_on DROP NOT NULL;
