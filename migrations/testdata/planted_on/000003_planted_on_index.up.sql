-- no transaction
-- compatible with: 2
CREATE INDEX CONCURRENTLY IF NOT EXISTS branches_planted_on_idx ON branches (planted_on);
