DROP TRIGGER churches_changed ON churches;
DROP TRIGGER tenants_changed ON tenants;
DROP FUNCTION tell_tenant_changed();
