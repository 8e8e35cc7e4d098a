DROP TABLE invitations;

-- Entries of the newer events stay: the log is append-only.
ALTER TABLE audit_log DROP CONSTRAINT audit_log_event_check;
ALTER TABLE audit_log ADD CONSTRAINT audit_log_event_check CHECK (event IN (
    'signed_up', 'signup_failed', 'logged_in', 'login_failed', 'logged_out', 'logged_out_everywhere', 'password_changed',
    'token_reused', 'tenant_status_changed', 'keys_resealed')) NOT VALID;
