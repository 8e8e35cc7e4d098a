-- An email that was released stays released: a church's id never equals the hash of an email.
UPDATE churches SET email_hash = id WHERE email_hash IS NULL;
ALTER TABLE churches ALTER COLUMN email_hash SET NOT NULL;
