-- By its registry's installation a PostgreSQL server's tenant databases are told from another Narthex's.
ALTER TABLE key_checks ADD COLUMN installation text NOT NULL DEFAULT replace(gen_random_uuid()::text, '-', '');

-- What a sweep has found that belongs to no church and no signup, since when, and what was decided of it.
CREATE TABLE orphans (
    kind          text NOT NULL,
    server        text NOT NULL, -- host:port, or empty for what is in the registry
    id            text NOT NULL, -- the tenant's, or for an index entry its own
    tenant_id     text NOT NULL,
    signup_id     text NOT NULL, -- that made it, where that is known
    first_seen_at timestamptz NOT NULL,
    renamed_at    timestamptz,
    kept          boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT orphans_pkey PRIMARY KEY (kind, server, id),
    CONSTRAINT orphans_kind_check CHECK (kind IN ('database', 'rows', 'entry', 'tenant'))
);

-- Whether an invitation was ever offered.
CREATE INDEX audit_log_admin_invited_idx ON audit_log (admin_id) WHERE event = 'admin_invited';
