-- no transaction
DROP INDEX CONCURRENTLY IF EXISTS branches_planted_on_idx;
