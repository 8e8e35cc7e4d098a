-- contract: branches.planted_on unread since 9
ALTER TABLE branches DROP COLUMN planted_on;
