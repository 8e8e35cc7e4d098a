package httpapi_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"narthex/httpapi"
	"narthex/internal/codec"
	"narthex/internal/dev/testenv"
	"narthex/internal/dev/teststack"
	"narthex/internal/secrets"
)

const (
	codecToken  = "codectokencodectokencodectokencodectoken"
	codecOrigin = "https://temporal.example.org"
)

func newCodec(keys *secrets.Keys) http.Handler {
	return httpapi.NewCodec(httpapi.CodecOptions{Keys: keys, Token: codecToken, Origins: []string{codecOrigin}})
}

// sealedPayloads returns a request of the UI with payloads as they are in a history.
func sealedPayloads(t testing.TB, keys *secrets.Keys, text string) string {
	t.Helper()
	plain := &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(text)}
	sealed, err := codec.New(keys).Encode([]*commonpb.Payload{plain})
	if err != nil {
		t.Fatal(err)
	}
	body, err := protojson.Marshal(&commonpb.Payloads{Payloads: sealed})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// altered flips a bit of the first payload.
func altered(t *testing.T, body string) string {
	t.Helper()
	var payloads commonpb.Payloads
	if err := protojson.Unmarshal([]byte(body), &payloads); err != nil {
		t.Fatal(err)
	}
	data := payloads.Payloads[0].Data
	data[len(data)-1] ^= 1
	changed, err := protojson.Marshal(&payloads)
	if err != nil {
		t.Fatal(err)
	}
	return string(changed)
}

func ask(handler http.Handler, method, path, body string, headers map[string]string) teststack.Answer {
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return teststack.Answer{Status: recorder.Code, Header: recorder.Header(), Body: recorder.Body.Bytes()}
}

func TestCodecOpensPayloads(t *testing.T) {
	keys := testenv.Keys(t)
	handler, body := newCodec(keys), sealedPayloads(t, keys, `"Grace Chapel"`)
	for name, got := range map[string]teststack.Answer{
		"bearer token":      ask(handler, http.MethodPost, "/decode", body, map[string]string{"Authorization": "Bearer " + codecToken}),
		"token in the path": ask(handler, http.MethodPost, "/"+codecToken+"/decode", body, nil),
	} {
		var opened struct{ Payloads []struct{ Data string } }
		if err := json.Unmarshal(got.Body, &opened); err != nil || got.Status != http.StatusOK || len(opened.Payloads) != 1 {
			t.Fatalf("%s: status %d, want 200 and one payload\n%s", name, got.Status, got.Body)
		}
		if text, _ := base64.StdEncoding.DecodeString(opened.Payloads[0].Data); string(text) != `"Grace Chapel"` {
			t.Errorf("%s: it opened %q, want \"Grace Chapel\"", name, text)
		}
	}
}

func TestCodecRefuses(t *testing.T) {
	keys := testenv.Keys(t)
	handler, body := newCodec(keys), sealedPayloads(t, keys, `"Grace Chapel"`)
	bearer := map[string]string{"Authorization": "Bearer " + codecToken}
	wrongBearer := map[string]string{"Authorization": "Bearer x" + codecToken}
	for name, c := range map[string]struct {
		path, body string
		headers    map[string]string
		status     int
		kind       string
	}{
		"no token":           {"/decode", body, nil, http.StatusUnauthorized, "invalid-token"},
		"another token":      {"/decode", body, wrongBearer, http.StatusUnauthorized, "invalid-token"},
		"another path":       {"/x" + codecToken + "/decode", body, bearer, http.StatusUnauthorized, "invalid-token"},
		"a request to seal":  {"/encode", body, bearer, http.StatusNotFound, "not-found"},
		"no payloads":        {"/decode", "[]", bearer, http.StatusBadRequest, "malformed-body"},
		"an altered payload": {"/decode", altered(t, body), bearer, http.StatusUnprocessableEntity, "not-readable"},
		"another key's":      {"/decode", sealedPayloads(t, testenv.Keys(t), "1"), bearer, http.StatusUnprocessableEntity, "not-readable"},
		"too large":          {"/decode", strings.Repeat(" ", 8<<20+1), bearer, http.StatusRequestEntityTooLarge, "body-too-large"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ask(handler, http.MethodPost, c.path, c.body, c.headers)
			teststack.WantProblem(t, got, c.status, c.kind)
			if strings.Contains(string(got.Body), "Grace") || strings.Contains(string(got.Body), codecToken) {
				t.Errorf("the refusal reveals too much: %s", got.Body)
			}
		})
	}
	teststack.WantProblem(t, ask(handler, http.MethodGet, "/decode", "", bearer), http.StatusMethodNotAllowed, "method-not-allowed")
}

// DNS rebinding: to the browser, a page whose name points to this machine has the UI's origin, but it sends its own host.
func TestCodecOnLoopbackChecksItsHost(t *testing.T) {
	keys := testenv.Keys(t)
	handler := httpapi.NewCodec(httpapi.CodecOptions{Keys: keys, Token: codecToken, Loopback: true})
	for host, want := range map[string]int{
		"127.0.0.1:8234": http.StatusOK, "localhost:8234": http.StatusOK, "[::1]:8234": http.StatusOK,
		"evil.example.org:8234": http.StatusMisdirectedRequest, "192.0.2.1": http.StatusMisdirectedRequest,
	} {
		request := httptest.NewRequest(http.MethodPost, "/"+codecToken+"/decode", strings.NewReader(sealedPayloads(t, keys, "1")))
		request.Host = host
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		if recorder.Code != want {
			t.Errorf("for the host %s: status %d, want %d", host, recorder.Code, want)
		}
	}
}

func TestCodecIsOnlyForTheUIsPages(t *testing.T) {
	handler := newCodec(testenv.Keys(t))
	for origin, want := range map[string]string{
		codecOrigin: codecOrigin, "https://evil.example.org": "", "http://temporal.example.org": "", "null": "", "": "",
	} {
		for _, method := range []string{http.MethodOptions, http.MethodPost} {
			got := ask(handler, method, "/"+codecToken+"/decode", "{}", map[string]string{"Origin": origin, "Access-Control-Request-Method": "POST"})
			if allowed := got.Header.Get("Access-Control-Allow-Origin"); allowed != want {
				t.Errorf("%s from %q: allowed origin %q, want %q", method, origin, allowed, want)
			}
		}
	}
}
