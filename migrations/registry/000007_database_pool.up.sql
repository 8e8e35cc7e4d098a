-- Databases that are ready to be claimed by a signup: who deletes the row has the database.
CREATE TABLE database_pool (
    id             text PRIMARY KEY, -- ULID; the database and its role are pool_{id}
    server         text NOT NULL, -- host:port
    template       text NOT NULL, -- name of the template that it is a copy of
    schema_version integer NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX database_pool_server_template_idx ON database_pool (server, template, id);
