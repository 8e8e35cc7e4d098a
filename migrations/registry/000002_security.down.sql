DROP TRIGGER tenants_status_audit ON tenants;
DROP FUNCTION audit_tenant_status();
DROP TABLE audit_log;
DROP FUNCTION audit_log_is_append_only();
DROP TABLE idempotency_keys;
DROP TABLE throttles;
DROP TABLE refresh_tokens;
DROP TABLE sessions;
DROP TABLE key_checks;
