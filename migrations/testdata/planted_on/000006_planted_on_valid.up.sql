ALTER TABLE branches VALIDATE CONSTRAINT branches_planted_on_check;
