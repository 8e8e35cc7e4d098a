package httpapi_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"narthex/httpapi"
	"narthex/internal/dev/testenv"
	"narthex/internal/dev/teststack"
)

func TestBranches(t *testing.T) {
	t.Parallel()
	c := teststack.New(t).Church()
	main := map[string]any{"name": " Main ", "address": "1 Church Street", "phone": ""}
	created := c.Want(http.StatusCreated, http.MethodPost, "/api/branches", main)
	branch := created.JSON(t)
	path := created.Header.Get("Location")
	if branch["name"] != "Main" || branch["isActive"] != true || branch["phone"] != nil || path != "/api/branches/"+branch["id"].(string) {
		t.Errorf("created %s at %s", created.Body, path)
	}
	read := c.Want(http.StatusOK, http.MethodGet, path, nil)
	etag := read.Header.Get("ETag")
	if etag == "" || etag != created.Header.Get("ETag") || string(read.Body) != string(created.Body) {
		t.Errorf("read %s with ETag %s, want %s with %s", read.Body, etag, created.Body, created.Header.Get("ETag"))
	}
	change := map[string]any{"name": "Main Street", "isActive": false}
	changed := c.Want(http.StatusOK, http.MethodPut, path, change, "If-Match: "+etag)
	if got := changed.JSON(t); got["name"] != "Main Street" || got["isActive"] != false || got["address"] != nil {
		t.Errorf("changed to %s", changed.Body)
	}
	teststack.WantProblem(t, c.Call(http.MethodPut, path, change, "If-Match: "+etag), http.StatusPreconditionFailed, "changed-meanwhile")
	teststack.WantProblem(t, c.Call(http.MethodDelete, path, nil, "If-Match: "+etag), http.StatusPreconditionFailed, "changed-meanwhile")
	teststack.WantProblem(t, c.Call(http.MethodPut, path, change), http.StatusPreconditionRequired, "precondition-required")
	for _, malformed := range []string{"x", `"`, `"?"`, `W/"1"`, `"1", "2"`, `"0001"`} {
		teststack.WantProblem(t, c.Call(http.MethodPut, path, change, "If-Match: "+malformed), http.StatusBadRequest, "malformed-if-match")
	}
	wrong := map[string]any{"name": "", "phone": strings.Repeat("1", 51)}
	teststack.WantProblem(t, c.Call(http.MethodPost, "/api/branches", wrong), http.StatusUnprocessableEntity, "invalid-fields")
	c.Want(http.StatusNoContent, http.MethodDelete, path, nil, "If-Match: "+changed.Header.Get("ETag"))
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		teststack.WantProblem(t, c.Call(method, path, change, "If-Match: *"), http.StatusNotFound, "not-found")
	}
	teststack.WantProblem(t, c.Call(http.MethodGet, "/api/branches/%00", nil), http.StatusNotFound, "not-found")
}

// TestLostUpdate lets ten admins change what they have all read. Only one of them can.
func TestLostUpdate(t *testing.T) {
	t.Parallel()
	c := teststack.New(t).Church()
	created := c.Want(http.StatusCreated, http.MethodPost, "/api/branches", map[string]any{"name": "Main"})
	path, seen := created.Header.Get("Location"), "If-Match: "+created.Header.Get("ETag")
	statuses := teststack.AtOnce(10, func(i int) teststack.Answer {
		return c.Call(http.MethodPut, path, map[string]any{"name": fmt.Sprint("Main ", i)}, seen)
	})
	if statuses[http.StatusOK] != 1 || statuses[http.StatusPreconditionFailed] != 9 {
		t.Errorf("statuses %v, want 1 × 200, 9 × 412", statuses)
	}
}

// TestPagesAreStable inserts and deletes rows while it walks a list. Each row that exists all the time is seen exactly once.
func TestPagesAreStable(t *testing.T) {
	t.Parallel()
	c := teststack.New(t).Church()
	var made []string
	add := func() string {
		return c.Want(http.StatusCreated, http.MethodPost, "/api/branches", map[string]any{"name": "Branch"}).JSON(t)["id"].(string)
	}
	for range 10 {
		made = append(made, add())
	}
	slices.Sort(made)
	seen := c.Walk("/api/branches?limit=3", func(page int) {
		if page == 0 {
			c.Want(http.StatusNoContent, http.MethodDelete, "/api/branches/"+made[0], nil, "If-Match: *") // seen
			c.Want(http.StatusNoContent, http.MethodDelete, "/api/branches/"+made[2], nil, "If-Match: *") // the cursor itself
			add()
		}
	})
	if len(seen) != 11 || !slices.Equal(seen[:10], made) {
		t.Errorf("seen %v, want %v and the new one", seen, made)
	}
	for _, query := range []string{"limit=0", "limit=201", "limit=x", "cursor=x", "cursor=" + made[0]} {
		teststack.WantProblem(t, c.Call(http.MethodGet, "/api/branches?"+query, nil), http.StatusBadRequest, "malformed-query")
	}
	if empty := c.Want(http.StatusOK, http.MethodGet, "/api/members", nil); string(empty.Body) != `{"items":[],"next":null}` {
		t.Errorf("an empty list is %s", empty.Body)
	}
}

func TestMembers(t *testing.T) {
	t.Parallel()
	c := teststack.New(t).Church()
	ada := map[string]any{"firstName": "Ada", "lastName": "Muster", "phone": "+1 (555) 010-0123", "email": " Ada@Example.org "}
	created := c.Want(http.StatusCreated, http.MethodPost, "/api/members", ada)
	member := created.JSON(t)
	if member["phone"] != "+15550100123" || member["email"] != "ada@example.org" || member["optInSms"] != true {
		t.Errorf("created %s", created.Body)
	}
	bob := map[string]any{"firstName": "Bob", "lastName": "Muster", "phone": "+15550100123", "optInSms": false}
	c.Want(http.StatusCreated, http.MethodPost, "/api/members", bob)
	for name, want := range map[string]struct {
		query map[string]any
		count int
	}{
		"a family's phone": {map[string]any{"phone": "+1 555 010 0123"}, 2}, "an email": {map[string]any{"email": "ADA@example.org"}, 1},
		"an unknown phone": {map[string]any{"phone": "+15550100999"}, 0},
	} {
		got := c.Want(http.StatusOK, http.MethodPost, "/api/members/lookup", want.query).JSON(t)
		if items := got["items"].([]any); len(items) != want.count {
			t.Errorf("%s finds %d members, want %d", name, len(items), want.count)
		}
	}
	for _, wrong := range []map[string]any{{}, {"phone": "+15550100123", "email": "ada@example.org"}, {"phone": "555"}, {"email": "x"}} {
		teststack.WantProblem(t, c.Call(http.MethodPost, "/api/members/lookup", wrong), http.StatusUnprocessableEntity, "invalid-fields")
	}
	local := map[string]any{"firstName": "Ada", "lastName": "Muster", "phone": "5550100"}
	teststack.WantProblem(t, c.Call(http.MethodPost, "/api/members", local), http.StatusUnprocessableEntity, "invalid-fields")

	path := created.Header.Get("Location")
	change := map[string]any{"firstName": "Ada", "lastName": "Other", "phone": "+15550100777"}
	changed := c.Want(http.StatusOK, http.MethodPut, path, change, "If-Match: "+created.Header.Get("ETag"))
	if got := changed.JSON(t); got["email"] != nil || got["phone"] != "+15550100777" {
		t.Errorf("changed to %s", changed.Body)
	}
	var kept string
	teststack.Row(t, c.Tenant(c.TenantID()), `SELECT string_agg(m::text, ' ') FROM members m`, nil, &kept)
	testenv.WantNothingOf(t, "the members' table", kept, "5550100", "example.org")
	c.Want(http.StatusNoContent, http.MethodDelete, path, nil, "If-Match: *")
	teststack.WantProblem(t, c.Call(http.MethodGet, path, nil), http.StatusNotFound, "not-found")
}

// importCSV posts a file.
func importCSV(c teststack.Church, file string) teststack.Answer {
	c.T.Helper()
	request := c.Request(http.MethodPost, "/api/members/import", c.Token, strings.NewReader(file))
	request.Header.Set("Content-Type", "text/csv; charset=utf-8")
	return c.Do(request)
}

func membersOf(c teststack.Church) int { return len(c.Walk("/api/members?limit=200", func(int) {})) }

func TestImportMembers(t *testing.T) {
	t.Parallel()
	c := teststack.New(t).Church()
	good := "\ufeffphone,lastName,firstName,email\r\n+1 555 010 0001,Muster,Ada,ada@example.org\r\n\"+15550100002\",\"Mus\"\"ter\",Bob,\r\n"
	if got := importCSV(c, good); got.Status != http.StatusCreated || got.JSON(t)["imported"] != 2.0 {
		t.Fatalf("import: status %d, %s; want 201 and 2", got.Status, got.Body)
	}
	wrong := strings.Join([]string{
		"firstName,lastName,phone,optInSms",
		"Cy,Muster,+15550100003,yes",
		",Muster,555,true",
		"Di,Muster,+15550100004,false",
		"Di,Muster,+1 555 0100004,",
		"Ada,Muster,+15550100001,",
		"short\n",
	}, "\n")
	problem := teststack.WantProblem(t, importCSV(c, wrong), http.StatusUnprocessableEntity, "invalid-fields")
	var told []string
	for _, one := range problem["errors"].([]any) {
		e := one.(map[string]any)
		told = append(told, fmt.Sprint(e["row"], " ", e["field"]))
	}
	if want := []string{"2 optInSms", "3 firstName", "3 phone", "5 phone", "6 phone", "7 <nil>"}; !slices.Equal(told, want) {
		t.Errorf("errors in %q, want %q", told, want)
	}
	if n := membersOf(c); n != 2 {
		t.Errorf("%d members after an import that was refused, want 2", n)
	}
	// 200 rows are too short, 200 have a wrong phone, 199 of these repeat the first, and two are already members.
	bad := "firstName,lastName,phone\nAda,Muster,+15550100001\n" + strings.Repeat("Ada,Muster\nAda,Muster,555\n", 200) +
		"Bob,\"Mus\"\"ter\",+15550100002\n"
	many := teststack.WantProblem(t, importCSV(c, bad), http.StatusUnprocessableEntity, "invalid-fields")
	listed := many["errors"].([]any)
	if len(listed) != 100 || listed[0].(map[string]any)["row"] != 2.0 || many["errorCount"] != 601.0 {
		t.Errorf("of 601 errors, %d are listed, from %v on, and %v are counted; want 100, from row 2 on, and 601",
			len(listed), listed[0], many["errorCount"])
	}
}

func TestFilesThatAreNoMembers(t *testing.T) {
	t.Parallel()
	c := teststack.New(t).Church()
	for name, file := range map[string]string{
		"nothing":                "",
		"no header":              "Ada,Muster,+15550100001\n",
		"a column twice":         "firstName,lastName,phone,phone\n",
		"a column missing":       "firstName,phone\n",
		"an open quote":          "firstName,lastName,phone\n\"Ada,Muster\n",
		"not UTF-8":              "firstName,lastName,phone\n\xff,a,+15550100001\n",
		"too many rows":          "firstName,lastName,phone\n" + strings.Repeat("A,B,+15550100001\n", 10_001),
		"too many wrong rows":    "firstName,lastName,phone\n" + strings.Repeat("a\n", 10_001),
		"a row that is too long": "firstName,lastName,phone\n" + strings.Repeat(",", 70<<10),
	} {
		if got := importCSV(c, file); got.Status != http.StatusBadRequest {
			t.Errorf("%s: status %d, want 400\n%s", name, got.Status, got.Body)
		}
	}
	teststack.WantProblem(t, importCSV(c, strings.Repeat("x", 5<<20+1)), http.StatusRequestEntityTooLarge, "body-too-large")
	noCSV := c.Call(http.MethodPost, "/api/members/import", map[string]any{})
	teststack.WantProblem(t, noCSV, http.StatusUnsupportedMediaType, "unsupported-media-type")
}

func TestImportsOfOneFileAtOnce(t *testing.T) {
	t.Parallel()
	c := teststack.New(t).Church()
	var large strings.Builder
	large.WriteString("firstName,lastName,phone\n")
	for i := range 2000 {
		fmt.Fprintf(&large, "Member,%d,+1555%07d\n", i, i)
	}
	statuses := teststack.AtOnce(3, func(int) teststack.Answer { return importCSV(c, large.String()) })
	if n := membersOf(c); statuses[http.StatusCreated] != 1 || statuses[http.StatusUnprocessableEntity] != 2 || n != 2000 {
		t.Errorf("three imports of one file: statuses %v and %d members, want 1 × 201, 2 × 422 and 2000", statuses, n)
	}
}

// slowly is a request body that takes some time to arrive.
func slowly(text string, takes time.Duration) io.Reader {
	reader, writer := io.Pipe()
	go func() {
		half := len(text) / 2
		_, _ = io.WriteString(writer, text[:half])
		time.Sleep(takes)
		_, err := io.WriteString(writer, text[half:])
		writer.CloseWithError(err)
	}()
	return reader
}

// The time limit for the answer starts only when the upload has arrived.
func TestASlowUploadLeavesTimeToAnswer(t *testing.T) {
	t.Parallel()
	const limit = 3 * time.Second
	c := teststack.New(t).Church()
	tenant := c.Tenant(c.TenantID())
	c.Stack = c.Another(func(o *httpapi.Options) { o.AnswerLimit = limit })
	send := func(path, mediaType, body string) teststack.Answer {
		request := c.Request(http.MethodPost, path, c.Token, slowly(body, limit+time.Second))
		request.Header.Set("Content-Type", mediaType)
		response, err := http.DefaultClient.Do(request) // c.Do would read the whole body first
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		content, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return teststack.Answer{Status: response.StatusCode, Header: response.Header, Body: content}
	}
	csv := "firstName,lastName,phone\nAda,Muster,+15550100001\n"
	if got := send("/api/members/import", "text/csv", csv); got.Status != http.StatusCreated {
		t.Errorf("a slow import: status %d, want 201\n%s", got.Status, got.Body)
	}
	if got := send("/api/branches", "application/json", `{"name": "North"}`); got.Status != http.StatusCreated {
		t.Errorf("a slow body: status %d, want 201\n%s", got.Status, got.Body)
	}
	if _, err := tenant.Exec(t.Context(), `BEGIN; LOCK TABLE members`); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	got := send("/api/members/import", "text/csv", csv)
	teststack.WantProblem(t, got, http.StatusServiceUnavailable, "unavailable")
	if took := time.Since(began); took > 4*limit {
		t.Errorf("an import into a database that hangs is answered after %s, want the upload plus %s", took, limit)
	}
}

func TestOnboarding(t *testing.T) {
	t.Parallel()
	c := teststack.New(t).Church()
	state := func() (done string) {
		for _, one := range c.Want(http.StatusOK, http.MethodGet, "/api/onboarding", nil).JSON(t)["tasks"].([]any) {
			task := one.(map[string]any)
			done += fmt.Sprintf("%s:%t:%t ", task["taskId"], task["completed"], task["completedAt"] != nil)
		}
		return done
	}
	if got, want := state(), "create_branch:false:false add_members:false:false send_message:false:false "; got != want {
		t.Errorf("at first %q, want %q", got, want)
	}
	first := c.Want(http.StatusOK, http.MethodPut, "/api/onboarding/add_members", map[string]any{"completed": true})
	again := c.Want(http.StatusOK, http.MethodPut, "/api/onboarding/add_members", map[string]any{"completed": true})
	if string(again.Body) != string(first.Body) {
		t.Errorf("done again: %s, want %s", again.Body, first.Body)
	}
	if got, want := state(), "create_branch:false:false add_members:true:true send_message:false:false "; got != want {
		t.Errorf("then %q, want %q", got, want)
	}
	c.Want(http.StatusOK, http.MethodPut, "/api/onboarding/add_members", map[string]any{"completed": false})
	unknown := c.Call(http.MethodPut, "/api/onboarding/rest", map[string]any{"completed": true})
	teststack.WantProblem(t, unknown, http.StatusNotFound, "not-found")
}

func TestConsents(t *testing.T) {
	t.Parallel()
	c := teststack.New(t).Church()
	ada := map[string]any{"firstName": "Ada", "lastName": "Muster", "phone": "+15550100123"}
	member := c.Want(http.StatusCreated, http.MethodPost, "/api/members", ada).JSON(t)["id"].(string)
	for _, status := range []string{"granted", "withdrawn"} {
		consent := map[string]any{"memberId": member, "type": "smsMarketing", "status": status, "source": "web_form"}
		c.Want(http.StatusCreated, http.MethodPost, "/api/consents", consent)
	}
	c.Want(http.StatusCreated, http.MethodPost, "/api/consents", map[string]any{"type": "analytics", "status": "denied"})
	all := c.Walk("/api/consents?limit=1", func(int) {})
	of := c.Walk("/api/consents?limit=1&memberId="+member, func(int) {})
	if len(all) != 3 || len(of) != 2 {
		t.Errorf("%d entries, %d of the member; want 3 and 2", len(all), len(of))
	}
	for _, wrong := range []map[string]any{
		{"type": "x", "status": "granted"}, {"type": "analytics", "status": "x"}, {"type": "analytics", "status": "granted", "source": "x"},
		{"type": "analytics", "status": "granted", "memberId": strings.Repeat("0", 26)},
		{"type": "analytics", "status": "granted", "memberId": "\u2028"},
	} {
		teststack.WantProblem(t, c.Call(http.MethodPost, "/api/consents", wrong), http.StatusUnprocessableEntity, "invalid-fields")
	}
	teststack.WantProblem(t, c.Call(http.MethodGet, "/api/consents?memberId=x", nil), http.StatusBadRequest, "malformed-query")
}
