-- safe for data: a check holds no data
ALTER TABLE branches DROP CONSTRAINT branches_planted_on_check;
