package httpapi_test

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// Every field that the contract requires of a JSON body is asked for: one that is missing, or null, has no default.
func TestRequiredFieldsAreRequired(t *testing.T) {
	t.Parallel()
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := newStack(t).church()
	paths := strings.NewReplacer("{id}", "01m8688yqk2ydy69mj7h6fv3y7", "{task}", "add_members")
	fields := 0
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.RequestBody == nil || operation.RequestBody.Value.Content["application/json"] == nil {
				continue
			}
			route := paths.Replace(path)
			send := func(body any) answer { return c.call(method, route, body, "If-Match: *") }
			for _, malformed := range []string{"null", "", "[]", `"x"`} {
				wantProblem(t, c.sendJSON(method, route, strings.NewReader(malformed)), http.StatusBadRequest, "malformed-body")
			}
			schema := operation.RequestBody.Value.Content["application/json"].Schema.Value
			body := sample(schema)
			for _, name := range schema.Required {
				fields++
				missing, null := maps.Clone(body), maps.Clone(body)
				delete(missing, name)
				null[name] = nil
				for what, wrong := range map[string]map[string]any{"without": missing, "with null for": null} {
					got := send(wrong)
					if got.status != http.StatusUnprocessableEntity || !slices.Equal(fieldsOf(got.json(t)), []string{name}) {
						t.Errorf("%s %s %s %s: status %d, want 422 and the field named\n%s", method, route, what, name, got.status, got.body)
					}
				}
			}
		}
	}
	if fields < 20 {
		t.Errorf("%d fields were tried: the test looks in the wrong places", fields)
	}
}

// sendJSON sends a body as it is.
func (c church) sendJSON(method, path string, body io.Reader) answer {
	c.t.Helper()
	request := c.request(method, path, c.token, body)
	request.Header.Set("If-Match", "*")
	return c.do(request)
}

// sample returns a body of the schema's required fields.
func sample(schema *openapi3.Schema) map[string]any {
	body := map[string]any{}
	for _, name := range schema.Required {
		property := schema.Properties[name].Value
		switch {
		case property.Example != nil:
			body[name] = property.Example
		case len(property.Enum) > 0:
			body[name] = property.Enum[0]
		case property.Type.Is("boolean"):
			body[name] = true
		default:
			body[name] = "correct horse"
		}
	}
	return body
}
