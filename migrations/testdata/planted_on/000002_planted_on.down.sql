ALTER TABLE branches DROP COLUMN planted_on;
