// Package sqlstate says what a PostgreSQL error means, in words for operators, and whether retrying can help.
// It is the only table of this. Its words may contain a SQLSTATE, a constraint's name and a database's name,
// but never a value of anybody's row.
package sqlstate

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// The states that code distinguishes.
const (
	UniqueViolation       = "23505"
	UndefinedDatabase     = "3D000"
	UndefinedSchema       = "3F000"
	InsufficientPrivilege = "42501"
	UndefinedTable        = "42P01"
	LockNotAvailable      = "55P03"
	DeadlockDetected      = "40P01"
)

// ErrAnswerTooLarge means that a database sent more than the process wants to hold. The connection is closed.
var ErrAnswerTooLarge = errors.New("the database's answer is too large")

type meaning struct {
	state   string // a SQLSTATE, or a class: its first two characters
	routine string // where in PostgreSQL's source the error arose, if that tells two meanings of a state apart
	retry   bool
	words   string
}

// meanings has the narrow ones first. States that it doesn't list are retried.
var meanings = []meaning{
	{"08", "", true, "the connection to PostgreSQL broke"},
	{"0A000", "RevalidateCachedQuery", true, "PostgreSQL refused: a column's type has changed since the statement was prepared"},
	{"0A", "", true, "PostgreSQL refused: this version does not support the statement"},
	{"22", "", false, "PostgreSQL refused: a value has the wrong form or is too long"},
	{"23502", "", false, "PostgreSQL refused: a value is missing"},
	{"23503", "", false, "PostgreSQL refused: a referenced row is missing, or the row is still referenced"},
	{UniqueViolation, "", false, "PostgreSQL refused: the value is already taken"},
	{"23514", "", false, "PostgreSQL refused: a value violates a check"},
	{"23", "", false, "PostgreSQL refused: the row violates a constraint"},
	{"25006", "", true, "PostgreSQL refused: the server is read-only (a standby, or a failover in progress)"},
	{"25P03", "", true, "PostgreSQL ended a transaction that was idle for too long"},
	{"28P01", "", true, "PostgreSQL refused: wrong password"},
	{"28", "", true, "PostgreSQL refused: the role may not log in from here"},
	{UndefinedDatabase, "", true, "the database does not exist"},
	{UndefinedSchema, "", true, "PostgreSQL refused: a schema is missing"},
	{"40001", "", true, "PostgreSQL refused: another transaction changed the same rows"},
	{DeadlockDetected, "", true, "PostgreSQL refused: deadlock with another transaction"},
	{"40", "", true, "PostgreSQL rolled the transaction back"},
	{InsufficientPrivilege, "createdb", false, "PostgreSQL refused: Narthex's role may not create databases"},
	{InsufficientPrivilege, "RenameDatabase", false, "PostgreSQL refused: Narthex's role may not create databases"},
	{InsufficientPrivilege, "CreateRole", false, "PostgreSQL refused: Narthex's role may not create roles"},
	{InsufficientPrivilege, "", false, "PostgreSQL refused: the role lacks the privilege"},
	{UndefinedTable, "", false, "PostgreSQL refused: a table is missing"},
	{"42703", "", false, "PostgreSQL refused: a column is missing"},
	{"42704", "", false, "PostgreSQL refused: a role or another object is missing"},
	{"42P04", "", false, "PostgreSQL refused: the database already exists"},
	{"42710", "", false, "PostgreSQL refused: the role or another object already exists"},
	{"42", "", false, "PostgreSQL refused: the statement does not fit the schema"},
	{"53100", "", true, "PostgreSQL refused: its disk is full"},
	{"53200", "", true, "PostgreSQL refused: it is out of memory"},
	{"53300", "", true, "PostgreSQL refused: all its connections are in use"},
	{"53", "", true, "PostgreSQL refused: it is out of resources"},
	{"55000", "", true, "PostgreSQL refused: the object is not in the right state"},
	{"55006", "", true, "PostgreSQL refused: the database is in use"},
	{LockNotAvailable, "", true, "PostgreSQL refused: another transaction holds the lock"},
	{"57014", "", true, "PostgreSQL cancelled the statement: it took too long, or somebody cancelled it"},
	{"57P01", "", true, "PostgreSQL ended the connection: it is shutting down, or somebody asked for it"},
	{"57P02", "", true, "PostgreSQL ended the connection: one of its processes crashed"},
	{"57P03", "", true, "PostgreSQL refused: it is starting up or shutting down"},
	{"57", "", true, "PostgreSQL ended the statement"},
	{"58", "", true, "PostgreSQL refused: its disk or operating system failed"},
	{"XX", "", true, "PostgreSQL refused: internal error, see its log"},
	{"", "", true, "PostgreSQL refused"},
}

func meaningOf(err *pgconn.PgError) meaning {
	for _, m := range meanings {
		named := m.state == err.Code || len(m.state) < len("23505") && m.state == err.Code[:min(len(m.state), len(err.Code))]
		if named && (m.routine == "" || m.routine == err.Routine) {
			return m
		}
	}
	return meanings[len(meanings)-1]
}

// Of returns the SQLSTATE of an error that PostgreSQL reported, and "" for any other.
func Of(err error) string {
	var reported *pgconn.PgError
	if !errors.As(err, &reported) {
		return ""
	}
	return reported.Code
}

// AlreadyThere reports whether PostgreSQL refused to create something that exists.
func AlreadyThere(err error) bool {
	switch Of(err) {
	case "42P04", "42P06", "42P07", "42701", "42710", "42723": // database, schema, table, column, another object, function
		return true
	}
	return false
}

// Retry reports whether a retry may help after err. It is true for errors that PostgreSQL did not report, except ErrAnswerTooLarge.
func Retry(err error) bool {
	var reported *pgconn.PgError
	if !errors.As(err, &reported) {
		return !isTooLarge(err)
	}
	return meaningOf(reported).retry
}

// Outage reports whether err means that a server was down or had no room, and says nothing about the request itself.
func Outage(err error) bool {
	state := Of(err)
	if state == "" {
		return !isTooLarge(err)
	}
	return strings.HasPrefix(state, "08") || strings.HasPrefix(state, "53") || strings.HasPrefix(state, "57P")
}

// shownName is a constraint's name as migrations write it. A church's own code can report any text as a constraint's name.
var shownName = regexp.MustCompile(`^[A-Za-z0-9_$]{1,63}$`)

// isTooLarge recognizes pgx's own error too, for a message that is too large by itself.
func isTooLarge(err error) bool {
	var message *pgproto3.ExceededMaxBodyLenErr
	return errors.Is(err, ErrAnswerTooLarge) || errors.As(err, &message)
}

// Words returns what PostgreSQL reported, such as "PostgreSQL refused: its disk is full (53100)", or "" for an
// error that it did not report, except ErrAnswerTooLarge.
func Words(err error) string {
	var reported *pgconn.PgError
	if isTooLarge(err) {
		return ErrAnswerTooLarge.Error()
	}
	if !errors.As(err, &reported) {
		return ""
	}
	words, code := meaningOf(reported).words, reported.Code
	var connecting *pgconn.ConnectError
	if code == UndefinedDatabase && errors.As(err, &connecting) {
		words = fmt.Sprintf("the database %s does not exist", connecting.Config.Database)
	}
	if shownName.MatchString(reported.ConstraintName) {
		code += " on " + reported.ConstraintName
	}
	return fmt.Sprintf("%s (%s)", words, code)
}
