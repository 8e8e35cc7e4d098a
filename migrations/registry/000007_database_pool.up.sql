-- Databases that are ready for signups. Whoever deletes a row gets its database.
CREATE TABLE database_pool (
    id             text PRIMARY KEY, -- ULID; the database and its role are pool_{id}
    server         text NOT NULL, -- host:port
    template       text NOT NULL, -- the name of the template that it was copied from
    schema_version integer NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX database_pool_server_template_idx ON database_pool (server, template, id);
