-- An email that was released stays so: a church's id is no email's hash.
UPDATE churches SET email_hash = id WHERE email_hash IS NULL;
ALTER TABLE churches ALTER COLUMN email_hash SET NOT NULL;
