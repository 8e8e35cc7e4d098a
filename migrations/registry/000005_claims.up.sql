-- Which process is starting the signup of an idempotency key, so that no other does meanwhile.
ALTER TABLE idempotency_keys ADD COLUMN claim text, ADD COLUMN claimed_at timestamptz;
