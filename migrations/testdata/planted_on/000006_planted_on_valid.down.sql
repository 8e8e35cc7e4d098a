-- safe for data: a check holds no data
ALTER TABLE branches DROP CONSTRAINT branches_planted_on_check;
ALTER TABLE branches ADD CONSTRAINT branches_planted_on_check CHECK (planted_on IS NOT NULL) NOT VALID;
