-- safe for data: a check holds none
ALTER TABLE branches DROP CONSTRAINT branches_planted_on_check;
