package httpapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"narthex/httpapi"
)

// church is a signed-up church, seen by one of its admins.
type church struct {
	*stack
	token string
}

func (s *stack) church() church {
	s.t.Helper()
	return church{s, s.register(applicant())["accessToken"].(string)}
}

// call sends a request with a JSON body, where there is one, and headers ("Name: value").
func (c church) call(method, path string, body any, headers ...string) answer {
	c.t.Helper()
	var content io.Reader
	if body != nil {
		content = jsonBody(c.t, body)
	}
	request := c.request(method, path, c.token, content)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	return c.do(request)
}

// want calls, and expects a status.
func (c church) want(status int, method, path string, body any, headers ...string) answer {
	c.t.Helper()
	got := c.call(method, path, body, headers...)
	if got.status != status {
		c.t.Fatalf("%s %s: status %d, want %d\n%s", method, path, got.status, status, got.body)
	}
	return got
}

// walk follows a list's next links from path, and returns the items' ids.
func (c church) walk(path string, between func(page int)) (all []string) {
	c.t.Helper()
	for page := 0; path != ""; page++ {
		got := c.want(http.StatusOK, http.MethodGet, path, nil)
		var list struct {
			Items []struct{ ID string }
			Next  string
		}
		if err := json.Unmarshal(got.body, &list); err != nil {
			c.t.Fatal(err)
		}
		for _, item := range list.Items {
			all = append(all, item.ID)
		}
		path = list.Next
		if link := got.header.Get("Link"); (path == "") != (link == "") || path != "" && link != "<"+path+`>; rel="next"` {
			c.t.Errorf("next is %q, and Link %q", path, link)
		}
		between(page)
	}
	return all
}

func TestBranches(t *testing.T) {
	t.Parallel()
	c := newStack(t).church()
	created := c.want(http.StatusCreated, http.MethodPost, "/api/branches", map[string]any{"name": " Main ", "address": "1 Church Street", "phone": ""})
	branch := created.json(t)
	path := created.header.Get("Location")
	if branch["name"] != "Main" || branch["isActive"] != true || branch["phone"] != nil || path != "/api/branches/"+branch["id"].(string) {
		t.Errorf("created %s at %s", created.body, path)
	}
	read := c.want(http.StatusOK, http.MethodGet, path, nil)
	etag := read.header.Get("ETag")
	if etag == "" || etag != created.header.Get("ETag") || string(read.body) != string(created.body) {
		t.Errorf("read %s with ETag %s, want %s with %s", read.body, etag, created.body, created.header.Get("ETag"))
	}
	change := map[string]any{"name": "Main Street", "isActive": false}
	changed := c.want(http.StatusOK, http.MethodPut, path, change, "If-Match: "+etag)
	if got := changed.json(t); got["name"] != "Main Street" || got["isActive"] != false || got["address"] != nil {
		t.Errorf("changed to %s", changed.body)
	}
	wantProblem(t, c.call(http.MethodPut, path, change, "If-Match: "+etag), http.StatusPreconditionFailed, "changed-meanwhile")
	wantProblem(t, c.call(http.MethodDelete, path, nil, "If-Match: "+etag), http.StatusPreconditionFailed, "changed-meanwhile")
	wantProblem(t, c.call(http.MethodPut, path, change), http.StatusPreconditionRequired, "precondition-required")
	for _, malformed := range []string{"x", `"`, `"?"`, `W/"1"`, `"1", "2"`, `"0001"`} {
		wantProblem(t, c.call(http.MethodPut, path, change, "If-Match: "+malformed), http.StatusBadRequest, "malformed-if-match")
	}
	wantProblem(t, c.call(http.MethodPost, "/api/branches", map[string]any{"name": "", "phone": strings.Repeat("1", 51)}), http.StatusUnprocessableEntity, "invalid-fields")
	c.want(http.StatusNoContent, http.MethodDelete, path, nil, "If-Match: "+changed.header.Get("ETag"))
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		wantProblem(t, c.call(method, path, change, "If-Match: *"), http.StatusNotFound, "not-found")
	}
	wantProblem(t, c.call(http.MethodGet, "/api/branches/%00", nil), http.StatusNotFound, "not-found")
}

// TestLostUpdate lets ten admins change what they have all seen: one of them can.
func TestLostUpdate(t *testing.T) {
	t.Parallel()
	c := newStack(t).church()
	created := c.want(http.StatusCreated, http.MethodPost, "/api/branches", map[string]any{"name": "Main"})
	statuses := count(10, func(i int) answer {
		return c.call(http.MethodPut, created.header.Get("Location"), map[string]any{"name": fmt.Sprint("Main ", i)}, "If-Match: "+created.header.Get("ETag"))
	})
	if statuses[http.StatusOK] != 1 || statuses[http.StatusPreconditionFailed] != 9 {
		t.Errorf("statuses %v, want 1 × 200, 9 × 412", statuses)
	}
}

// TestPagesAreStable inserts and deletes while it walks a list: what is there all the time is seen once.
func TestPagesAreStable(t *testing.T) {
	t.Parallel()
	c := newStack(t).church()
	var made []string
	add := func() string {
		return c.want(http.StatusCreated, http.MethodPost, "/api/branches", map[string]any{"name": "Branch"}).json(t)["id"].(string)
	}
	for range 10 {
		made = append(made, add())
	}
	slices.Sort(made)
	seen := c.walk("/api/branches?limit=3", func(page int) {
		if page == 0 {
			c.want(http.StatusNoContent, http.MethodDelete, "/api/branches/"+made[0], nil, "If-Match: *") // seen
			c.want(http.StatusNoContent, http.MethodDelete, "/api/branches/"+made[2], nil, "If-Match: *") // the cursor itself
			add()
		}
	})
	if len(seen) != 11 || !slices.Equal(seen[:10], made) {
		t.Errorf("seen %v, want %v and the new one", seen, made)
	}
	for _, query := range []string{"limit=0", "limit=201", "limit=x", "cursor=x", "cursor=" + made[0]} {
		wantProblem(t, c.call(http.MethodGet, "/api/branches?"+query, nil), http.StatusBadRequest, "malformed-query")
	}
	if empty := c.want(http.StatusOK, http.MethodGet, "/api/members", nil); string(empty.body) != `{"items":[],"next":null}` {
		t.Errorf("an empty list is %s", empty.body)
	}
}

func TestMembers(t *testing.T) {
	t.Parallel()
	c := newStack(t).church()
	ada := map[string]any{"firstName": "Ada", "lastName": "Muster", "phone": "+1 (555) 010-0123", "email": " Ada@Example.org "}
	created := c.want(http.StatusCreated, http.MethodPost, "/api/members", ada)
	member := created.json(t)
	if member["phone"] != "+15550100123" || member["email"] != "ada@example.org" || member["optInSms"] != true {
		t.Errorf("created %s", created.body)
	}
	c.want(http.StatusCreated, http.MethodPost, "/api/members", map[string]any{"firstName": "Bob", "lastName": "Muster", "phone": "+15550100123", "optInSms": false})
	for name, want := range map[string]struct {
		query map[string]any
		count int
	}{
		"a family's phone": {map[string]any{"phone": "+1 555 010 0123"}, 2}, "an email": {map[string]any{"email": "ADA@example.org"}, 1},
		"an unknown phone": {map[string]any{"phone": "+15550100999"}, 0},
	} {
		got := c.want(http.StatusOK, http.MethodPost, "/api/members/lookup", want.query).json(t)
		if items := got["items"].([]any); len(items) != want.count {
			t.Errorf("%s finds %d members, want %d", name, len(items), want.count)
		}
	}
	for _, wrong := range []map[string]any{{}, {"phone": "+15550100123", "email": "ada@example.org"}, {"phone": "555"}, {"email": "x"}} {
		wantProblem(t, c.call(http.MethodPost, "/api/members/lookup", wrong), http.StatusUnprocessableEntity, "invalid-fields")
	}
	wantProblem(t, c.call(http.MethodPost, "/api/members", map[string]any{"firstName": "Ada", "lastName": "Muster", "phone": "5550100"}), http.StatusUnprocessableEntity, "invalid-fields")

	path := created.header.Get("Location")
	changed := c.want(http.StatusOK, http.MethodPut, path, map[string]any{"firstName": "Ada", "lastName": "Other", "phone": "+15550100777"}, "If-Match: "+created.header.Get("ETag"))
	if got := changed.json(t); got["email"] != nil || got["phone"] != "+15550100777" {
		t.Errorf("changed to %s", changed.body)
	}
	var kept string
	row(t, c.tenant(c.tenantID()), `SELECT string_agg(m::text, ' ') FROM members m`, nil, &kept)
	for _, secret := range []string{"5550100", "example.org"} {
		wantNothingOf(t, "the members' table", kept, secret)
	}
	c.want(http.StatusNoContent, http.MethodDelete, path, nil, "If-Match: *")
	wantProblem(t, c.call(http.MethodGet, path, nil), http.StatusNotFound, "not-found")
}

// tenantID is the church's.
func (c church) tenantID() string {
	c.t.Helper()
	return c.want(http.StatusOK, http.MethodGet, "/api/auth/me", nil).json(c.t)["tenantId"].(string)
}

// importCSV posts a file.
func (c church) importCSV(file string) answer {
	c.t.Helper()
	request := c.request(http.MethodPost, "/api/members/import", c.token, strings.NewReader(file))
	request.Header.Set("Content-Type", "text/csv; charset=utf-8")
	return c.do(request)
}

func TestImportMembers(t *testing.T) {
	t.Parallel()
	c := newStack(t).church()
	members := func() int { return len(c.walk("/api/members?limit=200", func(int) {})) }
	good := "\ufeffphone,lastName,firstName,email\r\n+1 555 010 0001,Muster,Ada,ada@example.org\r\n\"+15550100002\",\"Mus\"\"ter\",Bob,\r\n"
	if got := c.importCSV(good); got.status != http.StatusCreated || got.json(t)["imported"] != 2.0 {
		t.Fatalf("import: status %d, %s; want 201 and 2", got.status, got.body)
	}
	wrong := "firstName,lastName,phone,optInSms\nCy,Muster,+15550100003,yes\n,Muster,555,true\nDi,Muster,+15550100004,false\nDi,Muster,+1 555 0100004,\nAda,Muster,+15550100001,\nshort\n"
	problem := wantProblem(t, c.importCSV(wrong), http.StatusUnprocessableEntity, "invalid-fields")
	var told []string
	for _, one := range problem["errors"].([]any) {
		e := one.(map[string]any)
		told = append(told, fmt.Sprint(e["row"], " ", e["field"]))
	}
	if want := []string{"2 optInSms", "3 firstName", "3 phone", "5 phone", "6 phone", "7 <nil>"}; !slices.Equal(told, want) {
		t.Errorf("errors in %q, want %q", told, want)
	}
	if n := members(); n != 2 {
		t.Errorf("%d members after an import that was refused, want 2", n)
	}
	// 200 rows are too short, 200 have a wrong phone, 199 of these repeat the first, and two are members already.
	bad := "firstName,lastName,phone\nAda,Muster,+15550100001\n" + strings.Repeat("Ada,Muster\nAda,Muster,555\n", 200) +
		"Bob,\"Mus\"\"ter\",+15550100002\n"
	many := wantProblem(t, c.importCSV(bad), http.StatusUnprocessableEntity, "invalid-fields")
	if listed := many["errors"].([]any); len(listed) != 100 || listed[0].(map[string]any)["row"] != 2.0 || many["errorCount"] != 601.0 {
		t.Errorf("of 601 errors, %d are listed, from %v on, and %v are counted; want 100, from row 2 on, and 601", len(listed), listed[0], many["errorCount"])
	}
	for name, file := range map[string]string{
		"nothing": "", "no header": "Ada,Muster,+15550100001\n", "a column twice": "firstName,lastName,phone,phone\n",
		"a column missing": "firstName,phone\n", "an open quote": "firstName,lastName,phone\n\"Ada,Muster\n", "no UTF-8": "firstName,lastName,phone\n\xff,a,+15550100001\n",
		"too many rows":       "firstName,lastName,phone\n" + strings.Repeat("A,B,+15550100001\n", 10_001),
		"too many wrong rows": "firstName,lastName,phone\n" + strings.Repeat("a\n", 10_001), "a row too long": "firstName,lastName,phone\n" + strings.Repeat(",", 70<<10),
	} {
		if got := c.importCSV(file); got.status != http.StatusBadRequest {
			t.Errorf("%s: status %d, want 400\n%s", name, got.status, got.body)
		}
	}
	wantProblem(t, c.importCSV(strings.Repeat("x", 5<<20+1)), http.StatusRequestEntityTooLarge, "body-too-large")
	wantProblem(t, c.call(http.MethodPost, "/api/members/import", map[string]any{}), http.StatusUnsupportedMediaType, "unsupported-media-type")
	var large strings.Builder
	large.WriteString("firstName,lastName,phone\n")
	for i := range 2000 {
		fmt.Fprintf(&large, "Member,%d,+1555%07d\n", i, i)
	}
	statuses := count(3, func(int) answer { return c.importCSV(large.String()) }) // the same at once
	if statuses[http.StatusCreated] != 1 || statuses[http.StatusUnprocessableEntity] != 2 || members() != 2002 {
		t.Errorf("three imports of one file: statuses %v and %d members, want 1 × 201, 2 × 422 and 2002", statuses, members())
	}
}

// slowly sends text in a request's body that takes that long to arrive.
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

// The time that an upload takes doesn't count against the time to answer, which starts when it has arrived.
func TestASlowUploadLeavesTimeToAnswer(t *testing.T) {
	t.Parallel()
	const limit = 3 * time.Second
	c := newStack(t).church()
	tenant := c.tenant(c.tenantID())
	c.stack = c.another(func(o *httpapi.Options) { o.AnswerLimit = limit })
	send := func(path, mediaType, body string) answer {
		request := c.request(http.MethodPost, path, c.token, slowly(body, limit+time.Second))
		request.Header.Set("Content-Type", mediaType)
		response, err := http.DefaultClient.Do(request) // do would read the body first
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		content, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer{response.StatusCode, response.Header, content}
	}
	csv := "firstName,lastName,phone\nAda,Muster,+15550100001\n"
	if got := send("/api/members/import", "text/csv", csv); got.status != http.StatusCreated {
		t.Errorf("a slow import: status %d, want 201\n%s", got.status, got.body)
	}
	if got := send("/api/branches", "application/json", `{"name": "North"}`); got.status != http.StatusCreated {
		t.Errorf("a slow body: status %d, want 201\n%s", got.status, got.body)
	}
	if _, err := tenant.Exec(t.Context(), `BEGIN; LOCK TABLE members`); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	got := send("/api/members/import", "text/csv", csv)
	wantProblem(t, got, http.StatusServiceUnavailable, "unavailable")
	if took := time.Since(began); took > 4*limit {
		t.Errorf("an import into a database that hangs is answered after %s, want its upload and %s", took, limit)
	}
}

func TestOnboarding(t *testing.T) {
	t.Parallel()
	c := newStack(t).church()
	state := func() (done string) {
		for _, one := range c.want(http.StatusOK, http.MethodGet, "/api/onboarding", nil).json(t)["tasks"].([]any) {
			task := one.(map[string]any)
			done += fmt.Sprintf("%s:%t:%t ", task["taskId"], task["completed"], task["completedAt"] != nil)
		}
		return done
	}
	if got, want := state(), "create_branch:false:false add_members:false:false send_message:false:false "; got != want {
		t.Errorf("at first %q, want %q", got, want)
	}
	first := c.want(http.StatusOK, http.MethodPut, "/api/onboarding/add_members", map[string]any{"completed": true})
	if again := c.want(http.StatusOK, http.MethodPut, "/api/onboarding/add_members", map[string]any{"completed": true}); string(again.body) != string(first.body) {
		t.Errorf("done again: %s, want %s", again.body, first.body)
	}
	if got, want := state(), "create_branch:false:false add_members:true:true send_message:false:false "; got != want {
		t.Errorf("then %q, want %q", got, want)
	}
	c.want(http.StatusOK, http.MethodPut, "/api/onboarding/add_members", map[string]any{"completed": false})
	wantProblem(t, c.call(http.MethodPut, "/api/onboarding/rest", map[string]any{"completed": true}), http.StatusNotFound, "not-found")
}

func TestConsents(t *testing.T) {
	t.Parallel()
	c := newStack(t).church()
	member := c.want(http.StatusCreated, http.MethodPost, "/api/members", map[string]any{"firstName": "Ada", "lastName": "Muster", "phone": "+15550100123"}).json(t)["id"].(string)
	for _, status := range []string{"granted", "withdrawn"} {
		c.want(http.StatusCreated, http.MethodPost, "/api/consents", map[string]any{"memberId": member, "type": "smsMarketing", "status": status, "source": "web_form"})
	}
	c.want(http.StatusCreated, http.MethodPost, "/api/consents", map[string]any{"type": "analytics", "status": "denied"})
	if all, of := c.walk("/api/consents?limit=1", func(int) {}), c.walk("/api/consents?limit=1&memberId="+member, func(int) {}); len(all) != 3 || len(of) != 2 {
		t.Errorf("%d entries, %d of the member; want 3 and 2", len(all), len(of))
	}
	for _, wrong := range []map[string]any{
		{"type": "x", "status": "granted"}, {"type": "analytics", "status": "x"}, {"type": "analytics", "status": "granted", "source": "x"},
		{"type": "analytics", "status": "granted", "memberId": strings.Repeat("0", 26)}, {"type": "analytics", "status": "granted", "memberId": "\u2028"},
	} {
		wantProblem(t, c.call(http.MethodPost, "/api/consents", wrong), http.StatusUnprocessableEntity, "invalid-fields")
	}
	wantProblem(t, c.call(http.MethodGet, "/api/consents?memberId=x", nil), http.StatusBadRequest, "malformed-query")
}
