DROP INDEX audit_log_admin_invited_idx;
DROP TABLE orphans;
ALTER TABLE key_checks DROP COLUMN installation;
