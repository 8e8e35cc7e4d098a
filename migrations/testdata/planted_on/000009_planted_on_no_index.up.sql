-- no transaction
-- compatible with: 8
DROP INDEX CONCURRENTLY IF EXISTS branches_planted_on_idx;
