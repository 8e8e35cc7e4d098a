-- safe for data: a check holds no data
-- unsafe: a church has few branches, and only an undo runs this
ALTER TABLE branches ADD CONSTRAINT branches_planted_on_check CHECK (planted_on IS NOT NULL);
ALTER TABLE branches ALTER COLUMN planted_on DROP NOT NULL;
