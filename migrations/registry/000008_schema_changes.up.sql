-- Processes that cache a tenant's record are also notified when its schema version changes.
CREATE OR REPLACE TRIGGER tenants_changed AFTER DELETE OR UPDATE OF id, name, email, database_url, status, schema_version ON tenants
    FOR EACH ROW EXECUTE FUNCTION tell_tenant_changed();
