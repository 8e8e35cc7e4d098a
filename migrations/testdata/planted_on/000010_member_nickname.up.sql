-- compatible with: 9
-- What a later release needs.
ALTER TABLE members ADD COLUMN nickname text;
