-- Processes that cache a tenant's record listen on tenant_changed. A notification carries the tenant's id.

CREATE FUNCTION tell_tenant_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('tenant_changed', OLD.id);
    RETURN NULL;
END $$;

CREATE TRIGGER tenants_changed AFTER DELETE OR UPDATE OF id, name, email, database_url, status ON tenants
    FOR EACH ROW EXECUTE FUNCTION tell_tenant_changed();
CREATE TRIGGER churches_changed AFTER UPDATE OF subscription_status, trial_ends_at ON churches -- a church's id is its tenant's id
    FOR EACH ROW EXECUTE FUNCTION tell_tenant_changed();
