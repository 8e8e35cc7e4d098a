-- A run brings the churches of one PostgreSQL server to one version of the tenant schema, or takes another run back.
CREATE TABLE fleet_runs (
    id         text PRIMARY KEY,
    server     text NOT NULL, -- host:port
    version    integer NOT NULL, -- to which churches are brought
    undoes     text, -- the run that this one takes back
    retries    text, -- the run whose failed churches this one tries again
    stage      text NOT NULL, -- where it is, in a word
    state      text NOT NULL,
    reason     text NOT NULL DEFAULT '', -- why it is in this state, for people
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fleet_runs_state_check CHECK (state IN ('running', 'paused', 'halted', 'completed', 'cancelled'))
);
CREATE UNIQUE INDEX fleet_runs_server_key ON fleet_runs (server) WHERE state IN ('running', 'paused', 'halted');

-- What a run does, and did, with each church: it is by this that a run is taken back.
CREATE TABLE fleet_changes (
    run_id       text NOT NULL REFERENCES fleet_runs (id),
    tenant_id    text NOT NULL, -- without a reference: it outlives the church
    from_version integer NOT NULL,
    to_version   integer NOT NULL,
    wave         integer NOT NULL, -- 0 is the canaries
    position     integer NOT NULL, -- in the wave
    state        text NOT NULL DEFAULT 'waiting',
    attempts     integer NOT NULL DEFAULT 0,
    sqlstate     text NOT NULL DEFAULT '',
    error        text NOT NULL DEFAULT '', -- in words, without values
    wanted_at    timestamptz, -- a request could not be served until the church is changed
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fleet_changes_pkey PRIMARY KEY (run_id, tenant_id),
    CONSTRAINT fleet_changes_state_check CHECK (state IN ('waiting', 'changing', 'changed', 'failed', 'gone'))
);
CREATE INDEX fleet_changes_waiting_idx ON fleet_changes (run_id, wave, position) WHERE state = 'waiting';
CREATE INDEX fleet_changes_wanted_idx ON fleet_changes (run_id, wanted_at) WHERE state = 'waiting' AND wanted_at IS NOT NULL;
CREATE INDEX fleet_changes_failed_idx ON fleet_changes (run_id) WHERE state = 'failed';

ALTER TABLE tenants
    ADD COLUMN schema_changed_at timestamptz NOT NULL DEFAULT now(), -- since when it has its version
    ADD COLUMN schema_serves integer; -- the oldest version whose release can work with this one; NULL is none older
