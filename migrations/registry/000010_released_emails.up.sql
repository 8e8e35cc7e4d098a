-- email_hash is the hash of the email that signed the church up. It is NULL once no admin of the church has that email:
-- the email may then sign up another church.
ALTER TABLE churches ALTER COLUMN email_hash DROP NOT NULL;
UPDATE churches c SET email_hash = NULL, updated_at = now()
WHERE EXISTS (SELECT FROM tenants t WHERE t.id = c.id AND t.status <> 'provisioning')
    AND NOT EXISTS (SELECT FROM admin_email_index i WHERE i.tenant_id = c.id AND i.email_hash = c.email_hash);
