package postgres

// IdleLimit is how long a transaction, or a session that holds locks, may be idle, in PostgreSQL's syntax. A frozen
// process must not keep others waiting.
const IdleLimit = "15s"
