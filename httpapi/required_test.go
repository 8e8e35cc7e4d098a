package httpapi_test

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"narthex/internal/dev/teststack"
)

// Every field of a JSON body that the contract requires is really required: a missing field, or null, has no default.
func TestRequiredFieldsAreRequired(t *testing.T) {
	t.Parallel()
	document := teststack.Contract(t)
	c := teststack.New(t).Church()
	paths := strings.NewReplacer("{id}", "01m8688yqk2ydy69mj7h6fv3y7", "{task}", "add_members")
	fields := 0
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.RequestBody == nil || operation.RequestBody.Value.Content["application/json"] == nil {
				continue
			}
			route := paths.Replace(path)
			send := func(body any) teststack.Answer { return c.Call(method, route, body, "If-Match: *") }
			for _, malformed := range []string{"null", "", "[]", `"x"`} {
				teststack.WantProblem(t, sendJSON(c, method, route, strings.NewReader(malformed)), http.StatusBadRequest, "malformed-body")
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
					if got.Status != http.StatusUnprocessableEntity || !slices.Equal(fieldsOf(got.JSON(t)), []string{name}) {
						t.Errorf("%s %s %s %s: status %d, want 422 and the field named\n%s", method, route, what, name, got.Status, got.Body)
					}
				}
			}
		}
	}
	if fields < 20 {
		t.Errorf("only %d fields were tried: the test looks in the wrong places", fields)
	}
}

// sendJSON sends a body as it is.
func sendJSON(c teststack.Church, method, path string, body io.Reader) teststack.Answer {
	c.T.Helper()
	request := c.Request(method, path, c.Token, body)
	request.Header.Set("If-Match", "*")
	return c.Do(request)
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
