-- no transaction
-- safe for data: an index holds no data
CREATE INDEX CONCURRENTLY IF NOT EXISTS branches_planted_on_idx ON branches (planted_on);
