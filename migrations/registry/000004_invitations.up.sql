-- Invitations of admins. A row stays until it expires, so that an acceptance can be repeated. The invited admin is in
-- admins and admin_email_index.
CREATE TABLE invitations (
    id         bytea PRIMARY KEY, -- SHA-256 of the token
    tenant_id  text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    admin_id   text NOT NULL REFERENCES admins (id) ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT invitations_admin_id_key UNIQUE (admin_id)
);
CREATE INDEX invitations_tenant_id_idx ON invitations (tenant_id);
CREATE INDEX invitations_expires_at_idx ON invitations (expires_at);

ALTER TABLE audit_log DROP CONSTRAINT audit_log_event_check;
ALTER TABLE audit_log ADD CONSTRAINT audit_log_event_check CHECK (event IN (
    'signed_up', 'signup_failed', 'logged_in', 'login_failed', 'logged_out', 'logged_out_everywhere', 'password_changed',
    'token_reused', 'tenant_status_changed', 'keys_resealed', 'admin_invited', 'invitation_failed', 'admin_joined', 'admin_removed'));
