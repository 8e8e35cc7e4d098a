-- Requests of a church that were answered with 5xx within a few seconds: a run over the fleet compares what failed since it
-- has changed a canary with what failed before.
CREATE TABLE failed_requests (
    tenant_id  text NOT NULL, -- without a reference: rows are deleted within hours
    since      timestamptz NOT NULL, -- the first failed at this time or later, the last before created_at
    requests   integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT failed_requests_pkey PRIMARY KEY (tenant_id, since)
);
