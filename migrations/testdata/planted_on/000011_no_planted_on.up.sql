-- contract: branches.planted_on unread since 9
-- compatible with: 9
ALTER TABLE branches DROP COLUMN planted_on;
