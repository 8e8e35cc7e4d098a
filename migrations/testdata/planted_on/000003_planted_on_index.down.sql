-- no transaction
-- safe for data: an index holds no data
DROP INDEX CONCURRENTLY IF EXISTS branches_planted_on_idx;
