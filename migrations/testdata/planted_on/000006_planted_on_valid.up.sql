-- compatible with: 3
ALTER TABLE branches VALIDATE CONSTRAINT branches_planted_on_check;
