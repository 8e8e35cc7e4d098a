-- The registry: the churches, where the database of each is, and which admin belongs to which church.
-- Emails and database URLs are sealed (bytea); *_hash columns are keyed blind indexes.

CREATE TABLE churches (
    id                  text PRIMARY KEY, -- also the tenant's id
    name                text NOT NULL,
    email               bytea NOT NULL,
    email_hash          text NOT NULL,
    subscription_status text NOT NULL,
    trial_ends_at       timestamptz,
    signup_id           text NOT NULL, -- the signup that owns the row
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT churches_email_hash_key UNIQUE (email_hash),
    CONSTRAINT churches_subscription_status_check CHECK (subscription_status IN ('trial', 'active', 'paused', 'cancelled'))
);

CREATE TABLE tenants (
    id                  text PRIMARY KEY REFERENCES churches (id),
    church_id           text NOT NULL REFERENCES churches (id),
    name                text NOT NULL,
    email               bytea NOT NULL,
    database_url        bytea NOT NULL,
    database_host       text NOT NULL,
    database_port       integer NOT NULL,
    database_name       text NOT NULL,
    subscription_status text NOT NULL,
    subscription_plan   text NOT NULL,
    phone_number        text,
    status              text NOT NULL,
    schema_version      integer NOT NULL,
    last_accessed_at    timestamptz,
    signup_id           text NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT tenants_database_name_key UNIQUE (database_name),
    CONSTRAINT tenants_phone_number_key UNIQUE (phone_number),
    CONSTRAINT tenants_subscription_status_check CHECK (subscription_status IN ('trial', 'active', 'paused', 'cancelled')),
    CONSTRAINT tenants_subscription_plan_check CHECK (subscription_plan IN ('starter', 'growth', 'pro')),
    CONSTRAINT tenants_status_check CHECK (status IN ('provisioning', 'active', 'suspended', 'archived', 'deleted'))
);
CREATE INDEX tenants_church_id_idx ON tenants (church_id);

CREATE TABLE admins (
    id            text PRIMARY KEY, -- the same as in the tenant's own database
    tenant_id     text NOT NULL REFERENCES tenants (id),
    email         bytea NOT NULL,
    email_hash    text NOT NULL,
    password_hash text NOT NULL,
    first_name    text NOT NULL,
    last_name     text NOT NULL,
    role          text NOT NULL,
    signup_id     text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT admins_email_hash_key UNIQUE (email_hash),
    CONSTRAINT admins_role_check CHECK (role IN ('PRIMARY', 'CO_ADMIN'))
);
CREATE INDEX admins_tenant_id_idx ON admins (tenant_id);

-- A login starts here: one lookup finds the tenant of an email.
CREATE TABLE admin_email_index (
    id         text PRIMARY KEY,
    email_hash text NOT NULL,
    email      bytea NOT NULL,
    tenant_id  text NOT NULL REFERENCES tenants (id),
    admin_id   text NOT NULL,
    signup_id  text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT admin_email_index_email_hash_key UNIQUE (email_hash)
);
CREATE INDEX admin_email_index_tenant_id_idx ON admin_email_index (tenant_id);

-- An inbound message starts here: one lookup finds the tenant of a phone number.
CREATE TABLE phone_numbers (
    id            text PRIMARY KEY,
    phone_number  text NOT NULL,
    tenant_id     text NOT NULL REFERENCES tenants (id),
    registered_at timestamptz NOT NULL,
    assigned_at   timestamptz NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT phone_numbers_phone_number_key UNIQUE (phone_number),
    CONSTRAINT phone_numbers_phone_number_check CHECK (phone_number ~ '^\+[1-9][0-9]{1,14}$') -- E.164
);
CREATE INDEX phone_numbers_tenant_id_idx ON phone_numbers (tenant_id);

-- A rollback first writes its signup's id here. After that, no late attempt of the same signup may create anything.
CREATE TABLE signup_tombstones (
    signup_id  text PRIMARY KEY,
    tenant_id  text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
