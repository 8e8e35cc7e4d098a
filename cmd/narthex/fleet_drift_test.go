package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"narthex/internal/ids"
)

// inChurch runs a statement in a church's database, as the superuser.
func (o *operated) inChurch(tenantID, sql string) {
	o.t.Helper()
	config := o.server.Config().Copy()
	config.Database = ids.DatabaseName(tenantID)
	conn, err := pgx.ConnectConfig(o.t.Context(), config)
	if err != nil {
		o.t.Fatal(err)
	}
	defer conn.Close(o.t.Context())
	if _, err := conn.Exec(o.t.Context(), sql); err != nil {
		o.t.Fatalf("%s: %v", sql, err)
	}
}

// TestOperatorsSeeDrift changes one church's database, closes another's, makes a third unreachable, and leaves a fourth
// behind.
func TestOperatorsSeeDrift(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	o.exec(`ALTER ROLE ` + o.role + ` CREATEDB`)
	wantIn(t, wantPrinted(t, o.variables, "fleet", "drift"), "0 of 0 churches have schema version 1.")
	var churches []string
	for range 5 {
		churches = append(churches, wantOK(t, o.url+"/api/auth/register", applicant())["tenantId"].(string))
	}
	wantIn(t, wantPrinted(t, o.variables, "fleet", "drift"), "5 of 5 churches have schema version 1.")
	if got := wantPrinted(t, o.variables, "fleet", "drift", "--json"); got !=
		`{"drift": [], "count": {"churches":5,"differing":0,"uncompared":0}}`+"\n" {
		t.Errorf("without drift the JSON is\n%s", got)
	}

	changed, closed, away, behind, same := churches[0], churches[1], churches[2], churches[3], churches[4]
	o.inChurch(changed, `ALTER TABLE branches ADD planted date; DROP INDEX members_email_hash_idx`)
	o.exec(`ALTER DATABASE tenant_` + closed + ` ALLOW_CONNECTIONS false`)
	o.change(`UPDATE tenants SET database_host = 'elsewhere', database_port = 5432 WHERE id = '` + away + `'`)
	o.change(`UPDATE tenants SET schema_version = 0 WHERE id = '` + behind + `'`)
	status, output := narthex(t, o.variables, "fleet", "drift")
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if status != 1 || len(lines) != 6 {
		t.Errorf("status %d and\n%s\nwant status 1 and 6 lines", status, output)
	}
	wantIn(t, output,
		"tenant_"+changed+": branches.planted: column not in the schema tenant_"+changed+": members_email_hash_idx: index missing",
		"tenant_"+closed+": could not be compared: connect to tenant database: PostgreSQL refused: the object is not in the right state (55000)",
		"tenant_"+away+": could not be compared: neither TENANT_SERVER_URL nor OTHER_TENANT_SERVER_URLS points to elsewhere:5432",
		"tenant_"+behind+": behind: version 0, newest 1",
		"narthex: drift in 2 of 5 churches, and 2 could not be compared")
	if strings.Contains(output, same) {
		t.Errorf("it prints\n%s\nwant nothing about %s, which has no drift", output, same)
	}

	wantIn(t, wantPrinted(t, o.variables, "fleet", "drift", "--one", same), "1 of 1 churches have schema version 1.")
	wantRefusal(t, "there is no church with this id that has a database", o.variables, "fleet", "drift", "--one", ids.New())
	wantMisused(t, `"tenant_1" is not a tenant id`, o.variables, "fleet", "drift", "--one", "tenant_1")
	wantMisused(t, `"" is not a tenant id`, o.variables, "fleet", "drift", "--one", "")
	o.wantJSONDrift(changed)
	wantRefusal(t, "the registry's installation id cannot be read", append(o.variables, unreachableRegistry), "fleet", "drift")
	wantRefusal(t, "REGISTRY_URL is not set", nil, "fleet", "drift")

	left, err := o.server.Exec(t.Context(), `
		SELECT FROM pg_roles r WHERE rolname LIKE 'scratch\_%' AND pg_has_role('`+o.role+`', r.oid, 'MEMBER')`)
	if err != nil || left.RowsAffected() > 0 {
		t.Errorf("%d scratch databases are left (%v), want none", left.RowsAffected(), err)
	}
}

// wantJSONDrift expects what TestOperatorsSeeDrift changed of one church.
func (o *operated) wantJSONDrift(changed string) {
	o.t.Helper()
	status, output := narthex(o.t, o.variables, "fleet", "drift", "--json", "--one", changed)
	printed, _, _ := strings.Cut(output, "narthex: ")
	var got struct {
		Drift []struct {
			TenantID, Database, Server, Error string
			Version                           int
			Differences                       []string
		}
		Count struct{ Churches, Differing, Uncompared int }
	}
	if err := json.Unmarshal([]byte(printed), &got); err != nil || status != 1 {
		o.t.Fatalf("status %d, and\n%s\n(%v), want status 1 and JSON", status, output, err)
	}
	if len(got.Drift) != 1 || got.Count.Churches != 1 || got.Count.Differing != 1 {
		o.t.Fatalf("it prints\n%s\nwant one church, which differs", output)
	}
	if d := got.Drift[0]; d.TenantID != changed || d.Database != "tenant_"+changed || d.Version != 1 ||
		!strings.HasPrefix(d.Server, "127.0.0.1:") || len(d.Differences) != 2 || d.Error != "" {
		o.t.Errorf("it prints\n%s\nwant the church, where it is, and two differences", output)
	}
}
