-- no transaction
-- safe for data: an index holds none
DROP INDEX CONCURRENTLY IF EXISTS branches_planted_on_idx;
