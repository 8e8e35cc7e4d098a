package postgres

// IdleLimit is how long a transaction, or a session that holds locks, may be idle, as PostgreSQL takes it: a process
// that was frozen must not keep others waiting.
const IdleLimit = "15s"
