CREATE OR REPLACE TRIGGER tenants_changed AFTER DELETE OR UPDATE OF id, name, email, database_url, status ON tenants
    FOR EACH ROW EXECUTE FUNCTION tell_tenant_changed();
