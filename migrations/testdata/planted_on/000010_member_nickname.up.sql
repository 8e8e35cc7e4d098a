-- What a later release needs.
ALTER TABLE members ADD COLUMN nickname text;
