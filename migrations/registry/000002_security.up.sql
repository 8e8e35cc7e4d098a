-- Sessions, throttles, idempotency keys and the audit log. No table holds personal data in plain text: a *_hash column
-- is a keyed hash, or the hash of a random value.

-- Each process checks here that it has the keys that the registry was written with.
CREATE TABLE key_checks (
    id         text PRIMARY KEY, -- always 'registry'
    sealed     bytea NOT NULL,
    indexed    text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- A session is one login with all of its refresh tokens.
CREATE TABLE sessions (
    id         text PRIMARY KEY,
    tenant_id  text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    admin_id   text NOT NULL,
    role       text NOT NULL,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sessions_tenant_id_admin_id_idx ON sessions (tenant_id, admin_id);

CREATE TABLE refresh_tokens (
    id         bytea PRIMARY KEY, -- SHA-256 of the token
    session_id text NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz, -- when it was first exchanged for its successor
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX refresh_tokens_session_id_idx ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_expires_at_idx ON refresh_tokens (expires_at);

-- How full each throttle's bucket is. A crash may empty the table.
CREATE UNLOGGED TABLE throttles (
    id         bytea PRIMARY KEY, -- keyed hash of what is throttled
    level      double precision NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX throttles_updated_at_idx ON throttles (updated_at);

-- The request that an Idempotency-Key was first sent with, and the signup that it started.
CREATE TABLE idempotency_keys (
    id           bytea PRIMARY KEY, -- keyed hash of the key
    request_hash bytea NOT NULL, -- keyed hash of the request
    tenant_id    text NOT NULL, -- as in the signup's input
    input        bytea NOT NULL, -- the signup's input, sealed
    run_id       text, -- of the signup's workflow; null until the workflow has started
    public_id    text, -- the signupId that the API returned
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);

-- Who did what. Rows are added, never changed or removed.
CREATE TABLE audit_log (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event      text NOT NULL,
    tenant_id  text,
    admin_id   text,
    email_hash text,
    detail     text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT audit_log_event_check CHECK (event IN (
        'signed_up', 'signup_failed', 'logged_in', 'login_failed', 'logged_out', 'logged_out_everywhere', 'password_changed',
        'token_reused', 'tenant_status_changed', 'keys_resealed'))
);
CREATE INDEX audit_log_tenant_id_created_at_idx ON audit_log (tenant_id, created_at);
CREATE INDEX audit_log_created_at_idx ON audit_log (created_at);

CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();

-- Every change of a tenant's status is logged, whoever makes it.
CREATE FUNCTION audit_tenant_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_log (event, tenant_id, detail) VALUES ('tenant_status_changed', NEW.id, OLD.status || ' to ' || NEW.status);
    RETURN NULL;
END $$;
CREATE TRIGGER tenants_status_audit AFTER UPDATE OF status ON tenants
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status AND OLD.status <> 'provisioning')
    EXECUTE FUNCTION audit_tenant_status();
