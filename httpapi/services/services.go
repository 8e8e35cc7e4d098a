// Package services holds the church services, one file each with its routes, rules and SQL. A handler is
// given its church's database and cannot reach another's: this package knows neither the router nor the
// registry.
package services

import (
	"slices"

	"narthex/httpapi"
	"narthex/internal/text"
)

// Routes lists the routes of all services.
func Routes() []httpapi.Route {
	return slices.Concat(branches.routes(), memberRoutes, memberImportRoutes, onboardingRoutes, consentRoutes)
}

// Statements are all SQL statements that the services run on a church's database, by name. A church whose schema has changed
// is probed with them.
func Statements() map[string]string {
	return map[string]string{
		"selectBranches": selectBranches, "selectBranch": selectBranch, "insertBranch": insertBranch, "updateBranch": updateBranch,
		"deleteBranch":  deleteBranch,
		"selectMembers": selectMembers, "selectMember": selectMember, "findMembers": findMembers, "insertMember": insertMember,
		"updateMember": updateMember, "deleteMember": deleteMember,
		"lockImports": lockImports, "knownMembers": knownMembers, "insertAll": insertAll,
		"selectTasks": selectTasks, "upsertTask": upsertTask,
		"selectConsents": selectConsents, "insertConsent": insertConsent, "memberForShare": memberForShare,
	}
}

// Lists are the arguments with which the listing statements return their first few rows.
func Lists() map[string][]any {
	return map[string][]any{
		"selectBranches": {"", few}, "selectMembers": {"", few}, "selectConsents": {"", few, ""}, "selectTasks": {},
	}
}

const few = 50

// fields collects the problems of a request's fields.
type fields struct{ httpapi.Fields }

// optional checks a text that may be missing. A blank text counts as missing.
func (f *fields) optional(field string, value **string, most int) {
	if *value == nil {
		return
	}
	if **value == "" {
		*value = nil
		return
	}
	f.Check(field, text.Check(**value, 1, most))
}

// oneOf checks a text that must be one of the allowed ones.
func (f *fields) oneOf(field, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		f.Check(field, "must be one of "+quoted(allowed))
	}
}

func quoted(words []string) (list string) {
	for i, word := range words {
		if i > 0 {
			list += ", "
		}
		list += `"` + word + `"`
	}
	return list
}
