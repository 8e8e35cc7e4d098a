DROP TABLE orphans;
ALTER TABLE key_checks DROP COLUMN installation;
