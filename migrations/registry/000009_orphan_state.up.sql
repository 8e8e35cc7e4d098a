-- What decides the action on an orphan, and how long ago a sweep has last seen it.
ALTER TABLE orphans
    ADD COLUMN half_dropped boolean NOT NULL DEFAULT false, -- or a role without a database: there is nothing to rename
    ADD COLUMN last_seen_at timestamptz NOT NULL DEFAULT now();
