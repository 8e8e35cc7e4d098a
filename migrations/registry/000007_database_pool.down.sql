DROP TABLE database_pool;
