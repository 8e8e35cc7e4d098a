-- The process that is starting an idempotency key's signup. The claim keeps other processes from starting it too.
ALTER TABLE idempotency_keys ADD COLUMN claim text, ADD COLUMN claimed_at timestamptz;
