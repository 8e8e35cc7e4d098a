-- What decides how an orphan is removed, and when a sweep last saw it.
ALTER TABLE orphans
    ADD COLUMN half_dropped boolean NOT NULL DEFAULT false, -- also true for a role without a database: there is nothing to rename
    ADD COLUMN last_seen_at timestamptz NOT NULL DEFAULT now();
