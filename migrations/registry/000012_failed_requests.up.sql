-- How many requests of a church were answered with 5xx, in spans of a few seconds. A run over the fleet compares the
-- failures after it changed a canary with those before.
CREATE TABLE failed_requests (
    tenant_id  text NOT NULL, -- not a foreign key: rows are deleted within hours
    since      timestamptz NOT NULL, -- the span starts here and ends at created_at
    requests   integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT failed_requests_pkey PRIMARY KEY (tenant_id, since)
);
