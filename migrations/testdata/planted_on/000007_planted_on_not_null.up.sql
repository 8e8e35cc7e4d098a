-- compatible with: 3
-- The check proves it, so PostgreSQL reads no rows.
ALTER TABLE branches ALTER COLUMN planted_on SET NOT NULL;
ALTER TABLE branches DROP CONSTRAINT branches_planted_on_check;
