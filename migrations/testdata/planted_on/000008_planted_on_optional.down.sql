-- safe for data: it fails if a branch has been saved without a date
-- unsafe: a church has few branches, and only an undo runs this
ALTER TABLE branches ALTER COLUMN planted_on SET NOT NULL;
