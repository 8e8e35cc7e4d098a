-- Whoever keeps a copy of a tenant's record in memory listens on tenant_changed, and hears its id.

CREATE FUNCTION tell_tenant_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('tenant_changed', OLD.id);
    RETURN NULL;
END $$;

CREATE TRIGGER tenants_changed AFTER DELETE OR UPDATE OF id, name, email, database_url, status ON tenants
    FOR EACH ROW EXECUTE FUNCTION tell_tenant_changed();
CREATE TRIGGER churches_changed AFTER UPDATE OF subscription_status, trial_ends_at ON churches -- their id is the tenant's
    FOR EACH ROW EXECUTE FUNCTION tell_tenant_changed();
