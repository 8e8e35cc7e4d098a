-- Whoever keeps a tenant's record in memory hears of a change of its schema too.
CREATE OR REPLACE TRIGGER tenants_changed AFTER DELETE OR UPDATE OF id, name, email, database_url, status, schema_version ON tenants
    FOR EACH ROW EXECUTE FUNCTION tell_tenant_changed();
