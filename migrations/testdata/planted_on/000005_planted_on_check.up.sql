-- compatible with: 3
ALTER TABLE branches ADD CONSTRAINT branches_planted_on_check CHECK (planted_on IS NOT NULL) NOT VALID;
