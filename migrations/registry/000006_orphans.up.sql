-- The installation's id distinguishes this Narthex's databases on a PostgreSQL server from another Narthex's.
ALTER TABLE key_checks ADD COLUMN installation text NOT NULL DEFAULT replace(gen_random_uuid()::text, '-', '');

-- The orphans that sweeps have found, which belong to no church and no signup: when each was first seen, and whether to keep it.
CREATE TABLE orphans (
    kind          text NOT NULL,
    server        text NOT NULL, -- host:port; empty for orphans in the registry
    id            text NOT NULL, -- the tenant's id; for an index entry, its own id
    tenant_id     text NOT NULL,
    signup_id     text NOT NULL, -- the signup that made it; empty if unknown
    first_seen_at timestamptz NOT NULL,
    renamed_at    timestamptz,
    kept          boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT orphans_pkey PRIMARY KEY (kind, server, id),
    CONSTRAINT orphans_kind_check CHECK (kind IN ('database', 'rows', 'entry', 'tenant'))
);

-- Says whether an invitation was ever offered.
CREATE INDEX audit_log_admin_invited_idx ON audit_log (admin_id) WHERE event = 'admin_invited';
