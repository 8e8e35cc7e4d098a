-- So that the next release can leave it out.
ALTER TABLE branches ALTER COLUMN planted_on DROP NOT NULL;
