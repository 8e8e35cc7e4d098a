-- A run migrates the churches on one PostgreSQL server to one version of the tenant schema, or undoes another run.
CREATE TABLE fleet_runs (
    id         text PRIMARY KEY,
    server     text NOT NULL, -- host:port
    version    integer NOT NULL, -- the version that churches are migrated to
    undoes     text, -- the run that this one undoes
    retries    text, -- the run whose failed churches this one retries
    stage      text NOT NULL, -- how far the run is, in one word
    state      text NOT NULL,
    reason     text NOT NULL DEFAULT '', -- why it is in this state, for people
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fleet_runs_state_check CHECK (state IN ('running', 'paused', 'halted', 'completed', 'cancelled'))
);
CREATE UNIQUE INDEX fleet_runs_server_key ON fleet_runs (server) WHERE state IN ('running', 'paused', 'halted');

-- What a run does, or did, with each church. A run is undone from these rows.
CREATE TABLE fleet_changes (
    run_id       text NOT NULL REFERENCES fleet_runs (id),
    tenant_id    text NOT NULL, -- not a foreign key: the row outlives the church
    from_version integer NOT NULL,
    to_version   integer NOT NULL,
    wave         integer NOT NULL, -- 0 is the canaries
    position     integer NOT NULL, -- in the wave
    state        text NOT NULL DEFAULT 'waiting',
    attempts     integer NOT NULL DEFAULT 0,
    sqlstate     text NOT NULL DEFAULT '',
    error        text NOT NULL DEFAULT '', -- in words, without values
    wanted_at    timestamptz, -- when a request had to be refused because the church was not changed yet
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fleet_changes_pkey PRIMARY KEY (run_id, tenant_id),
    CONSTRAINT fleet_changes_state_check CHECK (state IN ('waiting', 'changing', 'changed', 'failed', 'gone'))
);
CREATE INDEX fleet_changes_waiting_idx ON fleet_changes (run_id, wave, position) WHERE state = 'waiting';
CREATE INDEX fleet_changes_wanted_idx ON fleet_changes (run_id, wanted_at) WHERE state = 'waiting' AND wanted_at IS NOT NULL;
CREATE INDEX fleet_changes_canaries_idx ON fleet_changes (run_id) WHERE wave = 0;
CREATE INDEX fleet_changes_failed_idx ON fleet_changes (run_id) WHERE state = 'failed';

ALTER TABLE tenants
    ADD COLUMN schema_changed_at timestamptz NOT NULL DEFAULT now(), -- when it got its current version
    ADD COLUMN schema_serves integer; -- the oldest version whose release works with this one; NULL: this version only
